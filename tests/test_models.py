"""The block and the model: shapes, identity at initialisation, the paper's equations written out, costs."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diffussm.config import Config, resolve
from diffussm.cost.closed_form import forward_macs, parameters
from diffussm.cost.counted import dense_macs
from diffussm.models.build import build_model, initialise, parameter_groups
from diffussm.models.diffussm import Block, DiffuSSM
from diffussm.models.layers import position_embedding
from diffussm.ssm.s4d import S4D

SHAPES = [(m, p) for m in (1, 2, 4, 8) for p in (1, 2, 4) if (8 // p) ** 2 % m == 0]


def config(**model: object) -> Config:
    overrides: dict[str, object] = {f"model.{name}": value for name, value in model.items()}
    if model.get("classes") == 0:
        overrides["evaluation.metrics"] = ["fid"]
    return resolve("digits", overrides)


def randomise(module: torch.nn.Module) -> None:
    """Move every parameter off its initial value, zeros too."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype))


def batch(c: Config, size: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    m = c.model
    x = torch.randn(size, m.channels, m.image_size, m.image_size, generator=generator)
    return x, torch.arange(size) * 300, torch.arange(size) % (m.classes or 1)


@pytest.mark.parametrize("mixer", ["s4d", "identity"])
@pytest.mark.parametrize(("hourglass", "patch"), SHAPES)
def test_shapes_gradients_and_costs(hourglass: int, patch: int, mixer: str) -> None:
    c = config(hourglass=hourglass, patch=patch, mixer=mixer, width=16, depth=2)
    model = build_model(c, "fft")
    randomise(model)
    x, t, y = batch(c)
    output = model(x, t, y)
    assert output.shape == (3, 2, 8, 8)
    output.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    assert parameters(c) == sum(p.numel() for p in model.parameters())
    assert forward_macs(c).dense == dense_macs(model, (x[:1], t[:1], y[:1]))


@pytest.mark.parametrize(
    ("classes", "learned", "channels"), [(0, True, 1), (0, False, 3), (10, False, 1), (10, True, 3)]
)
def test_costs_of_other_inputs_and_outputs(classes: int, learned: bool, channels: int) -> None:
    c = config(classes=classes, channels=channels, depth=1, hourglass=2)
    diffusion = c.diffusion.model_copy(update={"learned_variance": learned, "loss": "hybrid" if learned else "simple"})
    c = c.model_copy(update={"diffusion": diffusion})
    model = build_model(c, "fft")
    x, t, y = batch(c, 1)
    assert model(x, t, y).shape == (1, channels * (2 if learned else 1), 8, 8)
    assert parameters(c) == sum(p.numel() for p in model.parameters())
    assert forward_macs(c).dense == dense_macs(model, (x, t, y))
    assert (model.y_embedder is None) == (classes == 0)


def test_mixer_macs_are_the_stated_formula() -> None:
    # Design's figure for XL at 256 px: 29 layers of 1152 over 1024 tokens, 4.1 G beside 295.6 G.
    c = config(depth=29, width=1152, hourglass=2, image_size=32)
    macs = forward_macs(c)
    assert macs.mixer / 1e9 == pytest.approx(4.1, abs=0.05)
    assert macs.dense == pytest.approx(29 * 7.5 * 1024 * 1152**2, rel=0.002)  # 295.6 G


@pytest.mark.parametrize("hourglass", [1, 2, 4, 8])
def test_a_block_is_the_identity_at_initialisation(hourglass: int) -> None:
    block = Block(config(hourglass=hourglass, width=16).model, "auto")
    initialise(block, seed=0)
    x, condition = torch.randn(2, 64 // hourglass, 16), torch.randn(2, 16)
    torch.testing.assert_close(block(x, condition), x, rtol=0, atol=0)


def test_a_new_model_predicts_zero() -> None:
    c = config()
    assert build_model(c)(*batch(c)).abs().max() == 0


def test_a_block_is_the_papers_equations() -> None:
    """One position after another, each W_up_k and W_down_k by itself, in float64."""
    m, d = 4, 8
    c = config(hourglass=m, width=d, state=4)
    block = Block(c.model, "reference").double()
    initialise(block, seed=0)
    randomise(block)
    x = torch.randn(2, 16, d, dtype=torch.float64)
    condition = torch.randn(2, d, dtype=torch.float64)

    def linear(layer: torch.nn.Linear, v: Tensor) -> Tensor:
        return v @ layer.weight.T + layer.bias

    def sigma(v: Tensor) -> Tensor:
        return 0.5 * v * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (v + 0.044715 * v**3)))

    gamma_beta_alpha = linear(block.adaLN_modulation[1], F.silu(condition))
    shift, scale, alpha = (gamma_beta_alpha[:, i * d : (i + 1) * d] for i in range(3))
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0)
    i = (x - mean) / (variance + 1e-6).sqrt() * (1 + scale[:, None]) + shift[:, None]
    hidden = sigma(linear(block.w_0, i))
    u = torch.empty(2, 64, d, dtype=torch.float64)
    for position in range(64):
        j, k = divmod(position, m)
        rows = slice(k * d, (k + 1) * d)
        u[:, position] = sigma(hidden[:, j] @ block.w_up.weight[rows].T + block.w_up.bias[rows])
    y = block.mixer(u)
    down = torch.empty(2, 16, 2 * d, dtype=torch.float64)
    for position in range(64):
        j, k = divmod(position, m)
        part = slice(2 * d // m * k, 2 * d // m * (k + 1))
        down[:, j, part] = sigma(y[:, position] @ block.w_down.weight[k] + block.w_down.bias[k, 0])
    o = linear(block.w_3, sigma(linear(block.w_2, down)) * sigma(linear(block.w_1, i)))
    torch.testing.assert_close(block(x, condition), x + alpha[:, None] * o)


def test_tokens_are_pixels_in_raster_order() -> None:
    """With every block off, output pixel (r, c) may depend on the pixels of its own group only."""
    c = config(hourglass=2, patch=2, width=16)
    model = build_model(c)
    torch.nn.init.normal_(model.final_layer.linear.weight)
    x, t, y = batch(c, 1)
    changed = x.clone()
    changed[0, 0, 2, 5] += 1  # patch row 1, patch column 2: token 6, in the group of tokens 6 and 7
    moved = (model(changed, t, y) - model(x, t, y)).abs().amax((0, 1)) > 1e-7
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[2:4, 4:8] = True
    assert torch.equal(moved, expected)


def test_position_embedding_has_the_column_first() -> None:
    embedding = position_embedding(4, 16).view(4, 4, 16)
    assert torch.equal(embedding[0, :, :8], embedding[3, :, :8])  # first half: the same in every row
    assert torch.equal(embedding[:, 0, 8:], embedding[:, 3, 8:])
    torch.testing.assert_close(embedding[0, 2, 0], torch.tensor(2.0).sin())


def test_labels_matter_and_dropping_them_is_a_class() -> None:
    c = config(width=16)
    model = build_model(c)
    randomise(model)
    x, t, _ = batch(c, 1)
    outputs = [model(x, t, torch.tensor([label])) for label in (0, 1, 10)]
    assert not torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def test_initial_values_depend_on_seed_and_name_alone() -> None:
    small, large = build_model(config(depth=1)), build_model(config(depth=3))
    same = dict(large.named_parameters())
    for name, p in small.named_parameters():
        assert torch.equal(p, same[name]), name
    other = build_model(resolve("digits", {"seed": 1}))
    assert not torch.equal(small.x_embedder.weight, other.x_embedder.weight)


def test_linear_layers_start_xavier_uniform() -> None:
    weight = build_model(config()).blocks[0].w_2.weight
    limit = (6 / sum(weight.shape)) ** 0.5
    assert limit * 0.99 < weight.abs().max() <= limit
    assert weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.05)


def test_optimiser_groups_hold_every_parameter_once() -> None:
    model = build_model(config(depth=2))
    dense, ssm = parameter_groups(model, lr=1.0, ssm_lr_scale=0.1, weight_decay=0.5)
    inside = {id(p) for module in model.modules() if isinstance(module, S4D) for p in module.parameters()}
    assert {id(p) for p in ssm["params"]} == inside
    assert len(inside) == 2 * 5
    assert len(dense["params"]) + len(ssm["params"]) == len(list(model.parameters()))
    assert (dense["lr"], dense["weight_decay"], ssm["lr"], ssm["weight_decay"]) == (1.0, 0.5, 0.1, 0.0)
    assert len(list(parameter_groups(build_model(config(mixer="identity")), 1.0, 1.0, 0.0))) == 1


def test_backends_make_the_same_model() -> None:
    c = config(width=16, hourglass=2)
    models = [DiffuSSM(c.model, 2, backend) for backend in ("fft", "toeplitz")]
    for model in models:
        initialise(model, seed=0)
        randomise(model)
    torch.testing.assert_close(models[0](*batch(c)), models[1](*batch(c)), rtol=1e-4, atol=1e-4)
