"""The process against formulas derived here, independently of the code, in float64."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from diffussm.config import DiffusionConfig
from diffussm.diffusion.gaussian import GaussianDiffusion, discretised_log_likelihood
from diffussm.diffusion.sampling import guided, sample, sampling_schedule
from diffussm.diffusion.schedule import ddim_steps, ddpm_steps, linear_schedule, respace
from diffussm.errors import UserError

T = 1000
BETAS = [1e-4 + (0.02 - 1e-4) * t / (T - 1) for t in range(T)]
ALPHA_BARS = [math.prod(1 - b for b in BETAS[: t + 1]) for t in range(T)]


def test_betas_and_products() -> None:
    schedule = linear_schedule(T)
    np.testing.assert_allclose(schedule.betas, BETAS, rtol=1e-12)
    np.testing.assert_allclose(schedule.alpha_bars, ALPHA_BARS, rtol=1e-10)
    assert linear_schedule(100).betas[-1] == pytest.approx(0.2)


@pytest.mark.parametrize("t", [1, 2, 500, 999])
def test_posterior_by_bayes_rule(t: int) -> None:
    """q(x_(t-1) | x_t, x_0) is the product of the Gaussians q(x_t | x_(t-1)) and q(x_(t-1) | x_0), in x_(t-1)."""
    x0, xt = 0.3, -1.2
    prior_mean, prior_variance = math.sqrt(ALPHA_BARS[t - 1]) * x0, 1 - ALPHA_BARS[t - 1]
    slope = math.sqrt(1 - BETAS[t])
    precision = 1 / prior_variance + slope**2 / BETAS[t]
    mean = (prior_mean / prior_variance + slope * xt / BETAS[t]) / precision
    schedule = linear_schedule(T)
    of_x0, of_xt = schedule.posterior_mean_weights
    assert schedule.posterior_variance[t] == pytest.approx(1 / precision, rel=1e-9)
    assert of_x0[t] * x0 + of_xt[t] * xt == pytest.approx(mean, rel=1e-9)
    assert schedule.posterior_log_variance[t] == pytest.approx(-math.log(precision), rel=1e-9)


def test_first_posterior() -> None:
    schedule = linear_schedule(T)
    assert schedule.posterior_variance[0] == 0
    assert schedule.posterior_log_variance[0] == schedule.posterior_log_variance[1]
    of_x0, of_xt = schedule.posterior_mean_weights
    assert (of_x0[0], of_xt[0]) == (pytest.approx(1), 0)


def test_spacings() -> None:
    assert ddpm_steps(T, 50)[[0, 1, 2, -1]].tolist() == [0, 20, 41, 999]
    assert ddim_steps(T, 50)[[0, 1, -1]].tolist() == [0, 20, 980]
    assert ddpm_steps(T, T).tolist() == list(range(T))
    assert ddpm_steps(T, 1).tolist() == [0]
    assert len(set(ddpm_steps(T, 250).tolist())) == 250
    for steps in (ddpm_steps, ddim_steps):
        with pytest.raises(UserError, match="sampler_steps"):
            steps(T, 1001)
    with pytest.raises(UserError, match="does not divide"):
        ddim_steps(T, 300)


def test_respacing_keeps_alpha_bar() -> None:
    kept = ddpm_steps(T, 50)
    short = respace(linear_schedule(T), kept)
    np.testing.assert_allclose(short.alpha_bars, np.asarray(ALPHA_BARS)[kept], rtol=1e-9)
    assert short.timesteps.tolist() == kept.tolist()


def process(learned: bool = True) -> GaussianDiffusion:
    return GaussianDiffusion(linear_schedule(T), learned)


def example(t: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images on the 8-bit grid with both extremes, noise, x_t, a network output and the step."""
    generator = torch.Generator().manual_seed(t)
    x0 = torch.randint(0, 256, (2, 1, 4, 4), generator=generator).float() / 127.5 - 1
    x0[0, 0, 0, :2] = torch.tensor([-1.0, 1.0])
    noise = torch.randn(x0.shape, generator=generator)
    output = torch.randn(2, 2, 4, 4, generator=generator).clamp(-0.9, 0.9)
    index = torch.full((2,), t)
    return x0, noise, process().add_noise(x0, index, noise), output, index


@pytest.mark.parametrize("t", [0, 1, 300, 999])
def test_both_terms_of_the_loss(t: int) -> None:
    x0, noise, xt, output, index = example(t)
    losses = process().losses(output, x0, xt, index, noise)
    e, z, image, x = (v[:, 0].double().numpy() for v in (output, noise, x0, xt))
    v = output[:, 1].double().numpy()
    mse = ((e - z) ** 2).mean((1, 2))

    abar, abar_before = ALPHA_BARS[t], ALPHA_BARS[t - 1] if t else 1.0
    beta_tilde = BETAS[max(t, 1)] * (1 - ALPHA_BARS[max(t, 1) - 1]) / (1 - ALPHA_BARS[max(t, 1)])
    log_variance = (v + 1) / 2 * math.log(BETAS[t]) + (1 - v) / 2 * math.log(beta_tilde)

    def posterior_mean(image: np.ndarray) -> np.ndarray:
        return (
            math.sqrt(abar_before) * BETAS[t] / (1 - abar) * image
            + math.sqrt(1 - BETAS[t]) * (1 - abar_before) / (1 - abar) * x
        )

    implied = (x - math.sqrt(1 - abar) * e) / math.sqrt(abar)
    mean, true_mean = posterior_mean(implied), posterior_mean(image)
    if t:
        variance = np.exp(log_variance)
        nats = 0.5 * (log_variance - math.log(beta_tilde) + (beta_tilde + (true_mean - mean) ** 2) / variance - 1)
    else:
        deviation = np.exp(0.5 * log_variance)
        upper = np.where(image > 0.999, 1.0, norm.cdf((image + 1 / 255 - mean) / deviation))
        lower = np.where(image < -0.999, 0.0, norm.cdf((image - 1 / 255 - mean) / deviation))
        nats = -np.log(np.maximum(upper - lower, 1e-12))
    bound = nats.mean((1, 2)) / math.log(2)
    np.testing.assert_allclose(losses.mse.numpy(), mse, rtol=1e-5)
    np.testing.assert_allclose(losses.bound.numpy(), bound, rtol=2e-3 if t == 0 else 2e-4)
    np.testing.assert_allclose(losses.total.numpy(), mse + bound, rtol=1e-3)


def test_only_the_variance_learns_from_the_bound() -> None:
    x0, noise, xt, output, index = example(300)
    output.requires_grad_()
    (gradient,) = torch.autograd.grad(process().losses(output, x0, xt, index, noise).bound.sum(), output)
    assert gradient[:, 0].abs().max() == 0
    assert gradient[:, 1].abs().min() > 0


def test_likelihood_of_all_bins_is_one() -> None:
    values = torch.arange(256) / 127.5 - 1
    log_likelihood = discretised_log_likelihood(values, torch.tensor(0.2), torch.tensor(-4.0))
    assert log_likelihood.exp().sum().item() == pytest.approx(1, abs=1e-4)


def test_without_learned_variance_the_loss_is_the_error() -> None:
    x0, noise, xt, output, index = example(300)
    losses = process(learned=False).losses(output[:, :1], x0, xt, index, noise)
    assert torch.equal(losses.total, losses.mse)
    assert losses.bound.abs().max() == 0


MEAN, DEVIATION = 0.4, 0.5


def optimal(diffusion: GaussianDiffusion):  # type: ignore[no-untyped-def]
    """For data distributed as N(MEAN, DEVIATION^2): the best noise prediction, and the v of the exact reverse variance
    beta~ + w^2 Var(x_0 | x_t), w the weight of x_0 in the posterior mean. DDPM is then exact at any number of steps."""
    bars = torch.as_tensor(ALPHA_BARS, dtype=torch.float64)

    def network(x: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        index = torch.searchsorted(diffusion.timesteps, t)
        bar = bars[t][:, None, None, None]
        total = bar * DEVIATION**2 + 1 - bar
        x0 = MEAN + bar.sqrt() * DEVIATION**2 / total * (x - bar.sqrt() * MEAN)
        noise = (x - bar.sqrt() * x0) / (1 - bar).sqrt()
        log_beta, log_posterior, weight = (
            table[index][:, None, None, None].double()
            for table in (diffusion.log_beta, diffusion.log_posterior, diffusion.mean_of_x0)
        )
        variance = log_posterior.exp() + weight**2 * DEVIATION**2 * (1 - bar) / total
        v = 2 * (variance.log() - log_posterior) / (log_beta - log_posterior) - 1
        return torch.cat([noise, v.expand_as(noise)], dim=1).float()

    return network


@pytest.mark.parametrize(
    ("sampler", "steps", "tolerance"),
    [("ddpm", 10, 0.015), ("ddpm", 50, 0.015), ("ddim", 50, 0.04), ("ddim", 500, 0.01)],
)
def test_the_optimal_denoiser_samples_the_data(sampler: str, steps: int, tolerance: float) -> None:
    """DDPM to within the samples' own error; DDIM, an Euler step of an ODE, the better the more steps."""
    diffusion = GaussianDiffusion(sampling_schedule(DiffusionConfig(), sampler, steps), True)
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(4000, dtype=torch.long)

    def noise(_: int) -> torch.Tensor:
        return torch.randn(4000, 1, 2, 2, generator=generator)

    drawn = sample(diffusion, optimal(diffusion), labels, noise, sampler, clip=False)
    assert drawn.mean().item() == pytest.approx(MEAN, abs=0.015)
    assert drawn.std().item() == pytest.approx(DEVIATION, abs=tolerance)


def test_guidance() -> None:
    def network(x: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return y[:, None, None, None].float() + torch.zeros(len(x), 2, 1, 1)

    x, t, y = torch.zeros(3, 1, 1, 1), torch.zeros(3, dtype=torch.long), torch.tensor([0, 1, 2])
    assert guided(network, 1.0, 10, 1) is network
    output = guided(network, 1.5, 10, 1)(x, t, y)
    assert output[:, 0, 0, 0].tolist() == [10 + 1.5 * (label - 10) for label in (0, 1, 2)]
    assert output[:, 1, 0, 0].tolist() == [0, 1, 2]  # the variance is the conditional one


def test_clipping_clamps_the_predicted_image() -> None:
    _, _, xt, output, index = example(999)
    assert process().predict(output, xt, index, clip=True).x0.abs().max() <= 1
    assert process().predict(output, xt, index).x0.abs().max() > 1
