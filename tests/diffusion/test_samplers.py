"""Each sampler's steps against formulas in float64, Gaussian data sampled back, guidance, solvers of Diffusers."""

import math
import re
import sys
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from diffussm.config import DiffusionConfig, resolve
from diffussm.diffusion.sampling import guided, make_sampler
from diffussm.errors import UserError
from diffussm.metrics import requirements
from tests.support.ddpm_formulas import (
    FIXED,
    LEARNED,
    WHOLE,
    Array,
    GaussianData,
    Prediction,
    Process,
    T,
    adm_steps,
    as_network,
)

DDPM_5, DDIM_5, SOLVERS_5 = [0, 250, 500, 749, 999], [0, 200, 400, 600, 800], [200, 400, 599, 799, 999]
LABELS = np.array([0, 3, 9])
NOISES = np.random.default_rng(0).normal(size=(5, 3, 2, 4, 4))

variants = pytest.mark.parametrize("config", [LEARNED, FIXED], ids=["learned", "fixed"])
clipped_or_not = pytest.mark.parametrize("clip", [False, True], ids=["unclipped", "clipped"])
solvers = pytest.mark.parametrize("solver", ["dpm-solver++", "unipc"])


def made_up(x: Array, t: int, y: Array) -> Array:
    """Noise and v of a network that is linear in nothing."""
    y = y[:, None, None, None]
    return np.concatenate([0.8 * np.sin(1.7 * x + t / 400 + y) + 0.3 * x, 1.2 * np.cos(0.7 * x - t / 300 + y)], axis=1)


def sampled(name: str, config: DiffusionConfig, clip: bool, **options: float) -> tuple[Array, list[int], list[int]]:
    """Five steps of the made-up network: images, the timesteps it was called at, the noises that were asked for."""
    calls: list[int] = []
    asked: list[int] = []

    def noise(step: int) -> torch.Tensor:
        asked.append(step)
        return torch.from_numpy(NOISES[step])

    network = as_network(lambda x, t, y: made_up(x, t, y)[:, : 4 if config.learned_variance else 2], calls)
    sample = make_sampler(config, name, 5, clip, dtype=torch.float64, **options)
    return sample(network, torch.from_numpy(LABELS), noise).numpy(), calls, asked


def read(process: Process, x: Array, k: int, config: DiffusionConfig, clip: bool) -> Prediction:
    output = made_up(x, process.timesteps[k], LABELS)
    return process.read(output if config.learned_variance else output[:, :2], x, k, config.learned_variance, clip)


@variants
@clipped_or_not
def test_ddpm_draws_from_each_steps_gaussian(config: DiffusionConfig, clip: bool) -> None:
    """Ho et al. 2020, algorithm 2: the last step is the mean."""
    process, x = Process(DDPM_5), NOISES[0]
    for taken, k in enumerate((4, 3, 2, 1), start=1):
        p = read(process, x, k, config, clip)
        x = p.mean + np.exp(p.log_variance / 2) * NOISES[taken]
    got, calls, asked = sampled("ddpm", config, clip)
    assert_allclose(got, read(process, x, 0, config, clip).mean, rtol=1e-6)
    assert (calls, asked) == (DDPM_5[::-1], [0, 1, 2, 3, 4])


@variants
@clipped_or_not
def test_ddim_goes_where_the_predicted_noise_points(config: DiffusionConfig, clip: bool) -> None:
    """Song et al. 2021, equation 12 with sigma = 0."""
    process, x = Process(DDIM_5), NOISES[0]
    for k in (4, 3, 2, 1, 0):
        p = read(process, x, k, config, clip)
        x = np.sqrt(process.bars_before[k]) * p.x0 + np.sqrt(process.remaining_before[k]) * p.noise
    got, calls, asked = sampled("ddim", config, clip)
    assert_allclose(got, x, rtol=1e-6)
    assert (calls, asked) == (DDIM_5[::-1], [0])


@variants
@clipped_or_not
def test_ddim_with_all_its_noise_draws_from_the_posterior(config: DiffusionConfig, clip: bool) -> None:
    """Song et al. 2021, section 4.1: at eta = 1 it is DDPM's process, with the posterior's variance."""
    process, x = Process(DDIM_5), NOISES[0]
    for taken, k in enumerate((4, 3, 2, 1), start=1):
        p = read(process, x, k, config, clip)
        x = process.posterior_mean(p.x0, x, k) + np.sqrt(process.variance[k]) * NOISES[taken]
    got, calls, asked = sampled("ddim", config, clip, ddim_eta=1.0)
    assert_allclose(got, read(process, x, 0, config, clip).mean, rtol=1e-6)
    assert (calls, asked) == (DDIM_5[::-1], [0, 1, 2, 3, 4])


@clipped_or_not
def test_ddim_with_some_noise(clip: bool) -> None:
    """Equations 12 and 16 of Song et al. 2021."""
    process, x, eta = Process(DDIM_5), NOISES[0], 0.3
    for taken, k in enumerate((4, 3, 2, 1, 0), start=1):
        p = read(process, x, k, LEARNED, clip)
        before, now = process.bars_before[k], process.bars[k]
        sigma = eta * np.sqrt((1 - before) / (1 - now)) * np.sqrt(1 - now / before)
        x = np.sqrt(before) * p.x0 + np.sqrt(1 - before - sigma**2) * p.noise + sigma * NOISES[taken % 5]
    assert_allclose(sampled("ddim", LEARNED, clip, ddim_eta=eta)[0], x, rtol=1e-6)


def multistep(corrects: bool, clip: bool) -> Array:
    """DPM-Solver++ (Lu et al. 2022, arXiv 2211.01095, algorithm 2): x_0 between two steps is extrapolated from the last
    two predictions; the last step is the prediction. UniPC (Zhao et al. 2023, order 2, B(h) = e^h - 1) does the same,
    and corrects each step with what is predicted at its end."""
    process, x = Process(), NOISES[0]
    signal, noise = np.sqrt(process.bars), np.sqrt(process.remaining)
    log_snr = np.log(signal / noise)

    def step(start: Array, t: int, t_next: int, image: Array) -> Array:
        return noise[t_next] / noise[t] * start - signal[t_next] * np.expm1(log_snr[t] - log_snr[t_next]) * image

    times, images, start = SOLVERS_5[::-1], [], x
    for i, t in enumerate(times):
        image = read(process, x, t, LEARNED, clip).x0
        if corrects and i:
            h = log_snr[t] - log_snr[times[i - 1]]
            correction = (image - images[-1]) / 2
            if i > 1:
                ratio = (log_snr[times[i - 2]] - log_snr[times[i - 1]]) / h
                first = np.expm1(-h) / -h - 1
                moments = np.array([first, 2 * (first / -h - 1 / 2)]) / np.expm1(-h)
                old, new = np.linalg.solve([[1, 1], [ratio, 1]], moments)
                correction = old * (images[-2] - images[-1]) / ratio + new * (image - images[-1])
            x = step(start, times[i - 1], t, images[-1] + correction)
        images.append(image)
        if i + 1 == len(times):
            break
        between, start = image, x
        if i:
            taken, next_one = log_snr[t] - log_snr[times[i - 1]], log_snr[times[i + 1]] - log_snr[t]
            between = image + next_one / taken / 2 * (image - images[-2])
        x = step(start, t, times[i + 1], between)
    return images[-1]


@solvers
@clipped_or_not
def test_solvers_take_their_papers_steps(solver: str, clip: bool) -> None:
    """Diffusers computes in float32: measured 7e-6 and 1.5e-5."""
    got, calls, asked = sampled(solver, LEARNED, clip)
    assert_allclose(got, multistep(solver == "unipc", clip), rtol=3e-5)
    assert (calls, asked) == (SOLVERS_5[::-1], [0])


DATA = GaussianData(0.4, 0.5)


def sampled_gaussian(name: str, steps: int, learned: bool = False) -> tuple[float, float]:
    """Mean and deviation of what the best denoiser samples, exactly: images are affine in x_T and in each step's noise,
    so that one sample without any noise is their mean, and one for each unit of noise gives its share of the variance.
    """
    process = Process(adm_steps(steps) if name == "ddpm" else WHOLE)
    noises = steps if name == "ddpm" else 1
    calls: list[int] = []

    def noise(step: int) -> torch.Tensor:
        return torch.eye(noises + 1, dtype=torch.float64)[:, step + 1, None, None, None]

    network = as_network(lambda x, t, _: DATA.output(process, x, process.timesteps.index(t), learned), calls)
    sample = make_sampler(LEARNED if learned else FIXED, name, steps, False, dtype=torch.float64)
    images = sample(network, torch.zeros(noises + 1, dtype=torch.long), noise).flatten().numpy()
    assert len(calls) == steps
    return images[0], math.sqrt(((images[1:] - images[0]) ** 2).sum())


def errors(name: str, counts: Sequence[int]) -> Array:
    """Of the deviation, by number of steps, with the variance not learned.

    The mean hardly depends on the steps: it is off by 1.3e-3 because x_T is drawn with mean 0 instead of
    sqrt(alpha_bar_T) times the data's, and by as much again at ten steps.
    """
    moments = np.array([sampled_gaussian(name, steps) for steps in counts])
    assert_allclose(moments[:, 0], DATA.mean, atol=2.5e-3)
    return np.abs(moments[:, 1] - DATA.deviation)


def order(counts: Sequence[int], errors: Array) -> float:
    slope, _ = np.polyfit(np.log(counts), np.log(errors), 1)
    return -slope


@pytest.mark.parametrize("steps", [2, 10, 50, 250])
def test_ddpm_with_the_exact_variance_samples_gaussian_data_at_any_number_of_steps(steps: int) -> None:
    """But for x_T, which is drawn from N(0, 1) and not from q, and for the last step, which is not drawn."""
    mean, deviation = sampled_gaussian("ddpm", steps, learned=True)
    process, variance = Process(), DATA.deviation**2
    total = DATA.variance_at(process.bars, process.remaining)
    slope = math.sqrt(process.bars[-1]) * variance / total[-1]  # of x_0 on x_T
    unused = variance * process.remaining[0] / total[0]  # of x_0 by x_1
    assert_allclose(mean, DATA.mean * (1 - slope * math.sqrt(process.bars[-1])), rtol=1e-9)
    assert_allclose(deviation**2, variance - unused + slope**2 * (1 - total[-1]), rtol=1e-9)
    assert_allclose((mean, deviation), DATA, atol=1.1e-4)


def test_ddpm_with_the_fixed_variance_nears_gaussian_data_as_steps_grow() -> None:
    found = errors("ddpm", counts := [50, 100, 200, 400, 1000])
    assert (np.diff(found) < 0).all()
    assert order(counts, found) == pytest.approx(0.9, abs=0.1)
    assert found[-1] < 0.005


def test_ddim_nears_gaussian_data_at_first_order() -> None:
    found = errors("ddim", counts := [25, 50, 100, 200])
    assert (np.diff(found) < 0).all()
    assert order(counts, found) == pytest.approx(1, abs=0.05)
    assert errors("ddim", [1000])[0] < 0.002


@solvers
def test_solvers_near_gaussian_data_at_second_order_or_more(solver: str) -> None:
    """Then Diffusers' float32 ends the fall: 1 - alpha_bar at the first timesteps has 3 digits."""
    found = errors(solver, counts := [10, 20, 40])
    ddim = errors("ddim", counts)
    assert order(counts, found) > 2
    assert (found < ddim * (0.8, 0.4, 0.1)).all()
    assert (errors(solver, [100, 200]) < 1e-3).all()


class Call:
    """A network over four channels of noise and of variance, and what it was called on."""

    def __init__(self) -> None:
        self.labels: list[list[int]] = []

    def __call__(self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.labels.append(y.tolist())
        phase = (t / 100 + y)[:, None, None, None]
        return torch.cat([torch.sin(x + phase), torch.cos(2 * x + phase)], dim=1)


@pytest.mark.parametrize("channels", [4, 3])
@pytest.mark.parametrize("scale", [0.0, 1.5, 4.0])
def test_guidance_goes_beyond_the_conditional_noise(scale: float, channels: int) -> None:
    """With 3 of 4 channels, DiT's code: the fourth channel of noise and the variances are the conditional ones."""
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 4, 2, 2)))
    t, y, none = torch.tensor([5, 5, 5]), torch.tensor([0, 3, 9]), torch.tensor([10, 10, 10])
    expected, unconditional = Call()(x, t, y), Call()(x, t, none)
    for channel in range(channels):
        noise, without = expected[:, channel].clone(), unconditional[:, channel]
        expected[:, channel] = without + scale * (noise - without)
    network = Call()
    torch.testing.assert_close(guided(network, scale, 10, channels)(x, t, y), expected, rtol=1e-12, atol=1e-12)
    assert network.labels == [[0, 3, 9, 10, 10, 10]]


def test_guidance_of_1_is_the_network_itself() -> None:
    network = Call()
    assert guided(network, 1.0, 10, 4) is network


@solvers
def test_a_solver_without_diffusers_names_the_extra(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(UserError, match=f"evaluation.sampler = {re.escape(solver)}: needs Diffusers.*`samplers`"):
        make_sampler(LEARNED, solver, 10, False)
    make_sampler(LEARNED, "ddim", 10, False)


def test_missing_diffusers_shows_before_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asks, does_not = (resolve("digits", {"evaluation.sampler": name}) for name in ("unipc", "ddpm"))
    assert requirements.missing_requirement(asks) == ""
    monkeypatch.setattr(requirements, "find_spec", lambda _: None)
    assert requirements.missing_requirement(asks) == "evaluation.sampler = unipc: needs Diffusers, the extra `samplers`"
    assert requirements.missing_requirement(does_not) == ""


@solvers
@pytest.mark.parametrize("steps", [0, T])
def test_a_solver_cannot_visit_every_timestep(solver: str, steps: int) -> None:
    with pytest.raises(UserError, match=f"sampler_steps = {steps}: must be between 1 and 999"):
        make_sampler(LEARNED, solver, steps, False)


@solvers
@pytest.mark.parametrize("steps", [1, T - 1])
def test_a_solver_takes_any_fewer_steps(solver: str, steps: int) -> None:
    assert np.isfinite(sampled_gaussian(solver, steps)).all()
