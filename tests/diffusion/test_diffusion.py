"""The process against ADM's formulas in float64: its tables, its reading of an output, its losses, its bound."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from diffussm.config import DiffusionConfig
from diffussm.diffusion.gaussian import GaussianDiffusion, discretised_log_likelihood, tanh_normal_cdf
from diffussm.diffusion.schedule import ddim_steps, ddpm_steps, linear_schedule, respace
from diffussm.errors import UserError
from tests.support.ddpm_formulas import (
    ADM_50,
    ADM_250,
    ALPHA_BARS,
    BETAS,
    DDIM_50,
    FIXED,
    LEARNED,
    TANH,
    WHOLE,
    Array,
    GaussianData,
    Process,
    T,
    exact_cdf,
    tanh_cdf,
)

RTOL = 1e-6
spacings = pytest.mark.parametrize("kept", [WHOLE, ADM_250, ADM_50, DDIM_50], ids=["1000", "250", "50", "ddim50"])
steps_of_spacings = pytest.mark.parametrize(
    ("kept", "k"),
    [(WHOLE, k) for k in (0, 1, 2, 300, 999)]
    + [(ADM_250, k) for k in (0, 1, 249)]
    + [(ADM_50, k) for k in (0, 1, 2, 25, 49)]
    + [(DDIM_50, k) for k in (0, 1, 2, 25, 49)],
)


def diffusion(
    kept: Sequence[int] = WHOLE, config: DiffusionConfig = LEARNED, dtype: torch.dtype = torch.float64
) -> GaussianDiffusion:
    return GaussianDiffusion(respace(linear_schedule(T), np.array(kept)), config, dtype=dtype)


def example(process: Process, k: int, dtype: type = np.float64) -> tuple[Array, Array, Array, Array]:
    """Images on the 8-bit grid with both extremes, noise, x_k, and an output near enough for step 0 to be likely."""
    generator = np.random.default_rng(k)
    x0 = generator.integers(0, 256, (3, 2, 4, 4)) / 127.5 - 1
    x0[0, 0, 0, :2] = -1, 1
    noise = generator.normal(size=x0.shape)
    output = np.concatenate(
        [noise + generator.normal(size=x0.shape) / 2, generator.uniform(-1.5, 1.5, x0.shape)], axis=1
    )
    x0, noise, output = (part.astype(dtype) for part in (x0, noise, output))
    return x0, noise, process.noisy(x0, k, noise).astype(dtype), output


def tensors(*arrays: Array) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(array) for array in arrays)


def at(k: int) -> torch.Tensor:
    return torch.full((3,), k)


def test_betas_are_linear_and_scale_with_fewer_timesteps() -> None:
    schedule = linear_schedule(T)
    assert_allclose(schedule.betas, [float(beta) for beta in BETAS], rtol=1e-12)
    assert_allclose(schedule.alpha_bars, [float(bar) for bar in ALPHA_BARS], rtol=1e-12)
    assert_allclose(linear_schedule(100).betas, [1e-3 + (0.2 - 1e-3) * t / 99 for t in range(100)], rtol=1e-12)


@spacings
def test_a_respaced_process_has_the_same_alpha_bars_and_adms_betas(kept: Sequence[int]) -> None:
    expected, schedule = Process(kept), respace(linear_schedule(T), np.array(kept))
    assert schedule.timesteps.tolist() == diffusion(kept).timesteps.tolist() == list(kept)
    assert_allclose(schedule.betas, expected.betas, rtol=RTOL)
    assert_allclose(schedule.alpha_bars, expected.bars, rtol=RTOL)
    assert_allclose(schedule.previous_alpha_bars, expected.bars_before, rtol=RTOL)


@spacings
def test_the_posterior_is_bayes_rule(kept: Sequence[int]) -> None:
    expected, schedule = Process(kept), respace(linear_schedule(T), np.array(kept))
    assert_allclose(schedule.posterior_variance, expected.variance, rtol=RTOL)
    assert_allclose(schedule.posterior_log_variance, expected.log_variance, rtol=RTOL)
    x0_weight, xt_weight = schedule.posterior_mean_weights
    assert_allclose(x0_weight, expected.x0_weight, rtol=RTOL)
    assert_allclose(xt_weight, expected.xt_weight, rtol=RTOL)
    assert (x0_weight[0], xt_weight[0]) == (pytest.approx(1, rel=1e-12), 0)


def test_steps_are_exactly_adms() -> None:
    assert ddpm_steps(T, 250).tolist() == ADM_250
    assert ddpm_steps(T, 50).tolist() == ADM_50
    assert ddim_steps(T, 50).tolist() == list(range(0, 981, 20))
    assert (ADM_50[:3], ADM_50[-2:]) == ([0, 20, 41], [979, 999])
    assert (ADM_250[:3], ADM_250[-2:]) == ([0, 4, 8], [995, 999])
    assert ddpm_steps(T, 1).tolist() == ddim_steps(T, 1).tolist() == [0]


def test_steps_are_what_adm_accumulates_at_every_count() -> None:
    """Where a step lies half-way between two, the rounding of ADM's sum decides, not always half to even."""
    for count in range(2, T + 1):
        taken, place, stride = [], 0.0, (T - 1) / (count - 1)
        for _ in range(count):
            taken.append(round(place))
            place += stride
        assert ddpm_steps(T, count).tolist() == taken


def test_ddims_stride_is_adms_at_every_divisor() -> None:
    for count in (count for count in range(2, T + 1) if T % count == 0):
        stride = next(i for i in range(1, T) if len(range(0, T, i)) == count)
        assert ddim_steps(T, count).tolist() == list(range(0, T, stride))


def test_too_many_steps_and_strides_that_do_not_divide_are_errors() -> None:
    for steps in (ddpm_steps, ddim_steps):
        for count in (0, T + 1):
            with pytest.raises(UserError, match="sampler_steps"):
                steps(T, count)
    with pytest.raises(UserError, match="must divide"):
        ddim_steps(T, 300)


@steps_of_spacings
@pytest.mark.parametrize("config", [LEARNED, FIXED], ids=["learned", "fixed"])
@pytest.mark.parametrize("clip", [False, True])
def test_an_output_is_read_as_adm_does(kept: Sequence[int], k: int, config: DiffusionConfig, clip: bool) -> None:
    """x_0, the noise it implies, the mean, and a log-variance that leaves its range where v leaves [-1, 1]."""
    process = Process(kept)
    x0, noise, xt, output = example(process, k)
    output = output if config.learned_variance else output[:, :2]
    expected = process.read(output, xt, k, config.learned_variance, clip)
    image, added, noisy, given = tensors(x0, noise, xt, output)
    assert_allclose(diffusion(kept).add_noise(image, at(k), added).numpy(), xt, rtol=RTOL)
    got = diffusion(kept, config).predict(given, noisy, at(k), clip)
    assert_allclose(got.x0.numpy(), expected.x0, rtol=RTOL)
    assert_allclose(got.noise.numpy(), expected.noise, rtol=RTOL)
    assert_allclose(got.mean.numpy(), expected.mean, rtol=RTOL)
    assert_allclose(got.log_variance.expand_as(got.mean).numpy(), expected.log_variance, rtol=RTOL)


@steps_of_spacings
@pytest.mark.parametrize(("config", "cdf"), [(LEARNED, exact_cdf), (TANH, tanh_cdf)], ids=["exact", "tanh"])
def test_the_loss_is_the_error_plus_the_bounds_term_in_bits(
    kept: Sequence[int], k: int, config: DiffusionConfig, cdf: Callable[[Array], Array]
) -> None:
    process = Process(kept)
    x0, noise, xt, output = example(process, k)
    image, added, noisy, given = tensors(x0, noise, xt, output)
    got = diffusion(kept, config).losses(given, image, noisy, at(k), added)
    mse = ((output[:, :2] - noise) ** 2).mean((1, 2, 3))
    bound = process.bound(process.read(output, xt, k), x0, xt, k, cdf)
    assert_allclose(got.mse.numpy(), mse, rtol=RTOL)
    assert_allclose(got.bound.numpy(), bound, rtol=RTOL)
    assert_allclose(got.total.numpy(), mse + bound, rtol=RTOL)


@pytest.mark.parametrize("k", [0, 1, 2, 300, 999])
def test_what_training_computes_in_float32_is_within_rounding(k: int) -> None:
    x0, noise, xt, output = example(Process(), k, np.float32)
    single = diffusion(dtype=torch.float32).losses(*tensors(output, x0, xt), at(k), *tensors(noise))
    double = diffusion().losses(*(part.double() for part in tensors(output, x0, xt)), at(k), *tensors(noise))
    for got, expected in zip(single, double, strict=True):
        assert got.dtype == torch.float32
        assert_allclose(got.numpy(), expected.numpy(), rtol=1e-5)  # 80 roundings; measured 4e-6


@pytest.mark.parametrize("k", [0, 300])
def test_only_the_variance_learns_from_the_bound(k: int) -> None:
    x0, noise, xt, output = tensors(*example(Process(), k))

    def bound(output: torch.Tensor) -> torch.Tensor:
        return diffusion().losses(output, x0, xt, at(k), noise).bound

    (gradient,) = torch.autograd.grad(bound(output.requires_grad_()).sum(), output)
    assert gradient[:, :2].abs().max() == 0
    assert gradient[:, 2:].abs().min() > 0
    predicted, v = output.detach().chunk(2, dim=1)
    assert torch.autograd.gradcheck(lambda v: bound(torch.cat([predicted, v], dim=1)), v.requires_grad_())


def test_without_learned_variance_the_loss_is_the_error() -> None:
    x0, noise, xt, output = tensors(*example(Process(), 300))
    losses = diffusion(config=FIXED).losses(output[:, :2], x0, xt, at(300), noise)
    assert torch.equal(losses.total, losses.mse)
    assert losses.bound.abs().max() == 0


def test_clipping_clamps_the_predicted_image() -> None:
    _, _, xt, output = tensors(*example(Process(), 999))
    assert diffusion().predict(output, xt, at(999), clip=True).x0.abs().max() <= 1
    assert diffusion().predict(output, xt, at(999)).x0.abs().max() > 1


@pytest.mark.parametrize("cdf", [torch.special.ndtr, tanh_normal_cdf])
@pytest.mark.parametrize("log_variance", [-9.0, -4.0, 0.0])
def test_likelihood_of_all_bins_is_one(cdf: Callable[[torch.Tensor], torch.Tensor], log_variance: float) -> None:
    values = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    mean, log_variances = torch.tensor([[0.2], [-0.99], [1.3]]), torch.tensor(log_variance)
    bins = discretised_log_likelihood(values, mean, log_variances, cdf).exp()
    assert_allclose(bins.sum(1).numpy(), 1, rtol=1e-9)


def test_an_impossible_image_has_probability_1e_12() -> None:
    likelihood = discretised_log_likelihood(*(torch.tensor([v], dtype=torch.float64) for v in (0.5, -0.5, -9.0)))
    assert likelihood.item() == pytest.approx(math.log(1e-12))


def test_adms_normal_cdf_is_off_by_1_8e_4_at_most() -> None:
    x = torch.linspace(-8, 8, 160_001, dtype=torch.float64)
    difference = tanh_normal_cdf(x).numpy() - exact_cdf(x.numpy())
    assert np.abs(difference).max() == pytest.approx(1.79e-4, abs=1e-6)
    assert abs(x[np.abs(difference).argmax()].item()) == pytest.approx(2.59, abs=0.01)


QUANTISED = GaussianData(0.1, 0.2)
GRID = np.arange(256) / 127.5 - 1
EDGES = np.concatenate([[-np.inf], GRID[:-1] + 1 / 255, [np.inf]])


@pytest.mark.parametrize("kept", [WHOLE, ADM_250, ADM_50], ids=["1000", "250", "50"])
def test_the_bound_of_gaussian_data_is_their_entropy(kept: Sequence[int]) -> None:
    """Bits of N(0.1, 0.2^2) on the 8-bit grid, from its optimal mean and exact reverse variance, at any respacing.

    The process is exact for data not yet quantised, whose x_1 given a bin is wider by the bin's variance, 5 % of
    1 - alpha_bar_0. The bound exceeds the entropy by the divergence of those two Gaussians, 9e-4 bits.
    """
    process, share = Process(kept), np.diff(exact_cdf((EDGES - QUANTISED.mean) / QUANTISED.deviation))
    mean = share @ GRID
    deviation = math.sqrt(share @ (GRID - mean) ** 2)

    def terms(k: Array, x0: Array, noise: Array) -> Array:
        index = k[:, None, None, None]
        xt = process.noisy(x0, index, noise)
        output = QUANTISED.output(process, xt, index, learned=True)
        image, added, noisy, given = tensors(x0, noise, xt, output)
        return diffusion(kept).losses(given, image, noisy, torch.from_numpy(k), added).bound.numpy()

    # The divergences are quadratic in x_0 and in the noise: two equally likely values of each give their expectation.
    later = np.arange(1, len(kept))
    x0, noise = np.meshgrid([mean - deviation, mean + deviation], [-1.0, 1.0])
    divergences = terms(later, *(np.broadcast_to(part, (len(later), 1, 2, 2)).copy() for part in (x0, noise)))
    # Step 0's likelihood is not: all 256 values, and Gauss and Hermite's nodes.
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    x0, noise = (part.reshape(-1, 1, 1, 1) for part in np.meshgrid(GRID, nodes, indexing="ij"))
    likelihood = share @ terms(np.zeros(len(x0), dtype=int), x0, noise).reshape(256, 40) @ weights / weights.sum()
    # KL(q(x_T | x_0) || N(0, 1)), again quadratic in x_0.
    bar, remaining = process.bars[-1], process.remaining[-1]
    prior = (bar * (mean**2 + deviation**2) + remaining - 1 - math.log(remaining)) / 2 / math.log(2)

    seen = share[share > 0]
    excess = divergences.sum() + likelihood + prior + (seen * np.log2(seen)).sum()
    wider = 1 + (2 / 255) ** 2 / 12 * process.bars[0] / process.remaining[0]
    assert excess == pytest.approx((math.log(wider) + 1 / wider - 1) / 2 / math.log(2), rel=0.05)
