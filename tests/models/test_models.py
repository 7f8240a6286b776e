"""The models: shapes, costs, identity and values at initialisation, the order of tokens, accuracy by each backend."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from diffussm.config import MIXERS, Config, resolve
from diffussm.cost.closed_form import forward_macs, parameters
from diffussm.cost.counted import fvcore_counts
from diffussm.models.build import build_model, initialise, parameter_groups
from diffussm.models.diffussm import Block, DiffuSSM
from diffussm.models.dit import DiTBlock
from diffussm.models.layers import position_embedding
from diffussm.models.scan import scan_order
from diffussm.ssm.s4d import BACKENDS, S4D
from tests.support import plain_s4d as plain
from tests.support.accuracy import assert_as_accurate
from tests.support.digits_models import batch, config, randomise

SHAPES = [(m, p) for m in (1, 2, 4, 8) for p in (1, 2, 4) if (8 // p) ** 2 % m == 0]


@pytest.mark.parametrize("residual", ["short", "full"])
@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize(("hourglass", "patch"), SHAPES)
def test_shapes_gradients_and_costs(hourglass: int, patch: int, mixer: str, residual: str) -> None:
    c = config(hourglass=hourglass, patch=patch, mixer=mixer, residual=residual, width=16, depth=2)
    check(c, "fft")


@pytest.mark.parametrize("patch", [1, 2, 4, 8])
def test_dit_shapes_gradients_and_costs(patch: int) -> None:
    check(config(kind="dit", patch=patch, width=16, heads=2, depth=2), "auto")


def check(c: Config, backend: str) -> None:
    """Shape of the output, a gradient everywhere, parameters and dense MACs as the closed form has them."""
    model = build_model(c, backend)
    randomise(model)
    x, t, y = batch(c)
    output = model(x, t, y)
    assert output.shape == (3, 2, 8, 8)
    output.square().mean().backward()
    alone = c.model.length == 1 and (c.model.mixer == "attention" or c.model.kind == "dit")
    without = ("qkv.weight", "qkv.bias") if alone else ()  # a token that sees itself only: queries and keys idle
    assert all(p.grad is not None for p in model.parameters())
    assert all(p.grad.abs().sum() > 0 for name, p in model.named_parameters() if not name.endswith(without or "\0"))
    assert parameters(c) == sum(p.numel() for p in model.parameters())
    counts = fvcore_counts(model, (x[:1], t[:1], y[:1]))
    mixers = [f"blocks.{i}.{'attn' if c.model.kind == 'dit' else 'mixer'}" for i in range(c.model.depth)]
    mixed = sum(counts[name].total() for name in mixers)
    assert counts[""].total() - mixed == forward_macs(c).dense
    if c.model.kind == "dit" or c.model.mixer == "attention":
        assert mixed == forward_macs(c).mixer


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
    counts = fvcore_counts(model, (x, t, y))
    assert forward_macs(c).dense == counts[""].total() - counts["blocks.0.mixer"].total()
    assert (model.y_embedder is None) == (classes == 0)


@pytest.mark.parametrize("residual", ["short", "full"])
@pytest.mark.parametrize("hourglass", [1, 2, 4, 8])
def test_a_block_is_the_identity_at_initialisation(hourglass: int, residual: str) -> None:
    block = Block(config(hourglass=hourglass, residual=residual, width=16).model, "auto")
    initialise(block, seed=0)
    x, condition = torch.randn(2, 64 if residual == "full" else 64 // hourglass, 16), torch.randn(2, 16)
    torch.testing.assert_close(block(x, condition), x, rtol=0, atol=0)


def test_a_dit_block_is_the_identity_at_initialisation() -> None:
    block = DiTBlock(16, 2)
    initialise(block, seed=0)
    x, condition = torch.randn(2, 9, 16), torch.randn(2, 16)
    torch.testing.assert_close(block(x, condition), x, rtol=0, atol=0)


def test_a_new_model_predicts_zero() -> None:
    c = config()
    assert build_model(c)(*batch(c)).abs().max() == 0


def test_dit_parameters_have_the_published_names() -> None:
    model = build_model(config(kind="dit", depth=1, width=16, heads=2))
    block = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "adaLN_modulation.1"]
    owners = ["x_embedder.proj", "t_embedder.mlp.0", "t_embedder.mlp.2", *(f"blocks.0.{name}" for name in block)]
    owners += ["final_layer.linear", "final_layer.adaLN_modulation.1"]
    expected = {f"{owner}.{leaf}" for owner in owners for leaf in ("weight", "bias")} | {
        "y_embedder.embedding_table.weight"
    }
    assert {name for name, _ in model.named_parameters()} == expected


@pytest.mark.parametrize("mixer", MIXERS)
def test_gradcheck(mixer: str) -> None:
    """Of every mixer, with respect to its input and each of its parameters."""
    made = Block(config(mixer=mixer, width=4, **{"state": 4} if mixer == "s4d" else {}).model, "auto").mixer.double()
    initialise(made, seed=0)
    names = [name for name, _ in made.named_parameters()]

    def function(u: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(made, dict(zip(names, values, strict=True)), (u,))

    u = torch.randn(2, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, (u, *(p.detach().clone().requires_grad_() for p in made.parameters())))


@pytest.mark.parametrize("side", [2, 4, 8, 16])
def test_scan_orders_visit_every_token_once(side: int) -> None:
    for name in ("raster", "serpentine", "hilbert"):
        order = scan_order(name, side)
        assert sorted(order.tolist()) == list(range(side * side))
        steps = [abs(a // side - b // side) + abs(a % side - b % side) for a, b in pairwise(order.tolist())]
        assert set(steps) == ({1} if name != "raster" else {1, side})


def test_small_scans_written_out() -> None:
    assert scan_order("serpentine", 3).tolist() == [0, 1, 2, 5, 4, 3, 6, 7, 8]
    assert scan_order("hilbert", 2).tolist() == [0, 1, 3, 2]
    assert scan_order("hilbert", 4).tolist() == [0, 4, 5, 1, 2, 3, 7, 6, 10, 11, 15, 14, 13, 9, 8, 12]


@pytest.mark.parametrize("scan", ["raster", "serpentine", "hilbert"])
def test_pixels_come_back_to_their_places(scan: str) -> None:
    """With every block off, an output pixel may depend on the input pixels of its own token only."""
    model = build_model(config(scan=scan, width=16))
    torch.nn.init.normal_(model.final_layer.linear.weight)
    x, t, y = batch(config(), 1)
    changed = x.clone()
    changed[0, 0, 2, 5] += 1
    moved = (model(changed, t, y) != model(x, t, y)).any(1)[0]
    assert moved.nonzero().tolist() == [[2, 5]]


def test_tokens_are_pixels_in_raster_order() -> None:
    """With every block off, output pixel (r, c) may depend on the pixels of its own group only."""
    c = config(hourglass=2, patch=2, width=16)
    model = build_model(c)
    torch.nn.init.normal_(model.final_layer.linear.weight)
    x, t, y = batch(c, 1)
    changed = x.clone()
    changed[0, 0, 2, 5] += 1  # patch row 1, patch column 2: token 6, in the group of tokens 6 and 7
    moved = (model(changed, t, y) != model(x, t, y)).any(1)[0]
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


def test_dit_starts_as_its_authors_start_it() -> None:
    """Xavier-uniform matrices (q, k, v as one), biases 0, embedders N(0, 0.02), adaLN and decoder 0."""
    model = build_model(config(kind="dit", depth=2, width=64, heads=4, patch=2))
    for name, p in model.named_parameters():
        if name.endswith("bias") or "adaLN" in name or "final_layer.linear" in name:
            assert p.abs().max() == 0, name
        elif "embedder" in name and "x_embedder" not in name:
            assert p.std().item() == pytest.approx(0.02, rel=0.12), name
        else:
            outputs, inputs = p.flatten(1).shape
            limit = (6 / (outputs + inputs)) ** 0.5
            assert p.abs().max() <= limit, name
            assert p.std().item() == pytest.approx(limit / 3**0.5, rel=0.12), name


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
    for other in (config(mixer="identity"), config(mixer="attention"), config(kind="dit")):
        assert len(list(parameter_groups(build_model(other), 1.0, 1.0, 0.0))) == 1


@pytest.mark.parametrize("backend", plain.TRUSTED)
def test_a_model_is_as_accurate_by_each_backend_as_by_a_plain_one(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Output and every gradient, in float32; the truth is the model in float64 with S4D's recurrence."""
    monkeypatch.setitem(BACKENDS, "plain", plain.TRUSTED[backend])
    exact = output_and_gradients("reference", torch.float64)
    found, trusted = (output_and_gradients(name, torch.float32) for name in (backend, "plain"))
    for name, value in exact.items():
        assert_as_accurate(found[name], trusted[name], value, name)


def output_and_gradients(backend: str, dtype: torch.dtype) -> dict[str, Tensor]:
    c = config(width=16, hourglass=2)
    model = DiffuSSM(c.model, c.outputs, backend)
    initialise(model, seed=0)
    randomise(model)
    model.to(dtype)
    x, t, y = batch(c)
    output = model(x.to(dtype), t, y)
    dy = torch.randn(output.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    gradients = torch.autograd.grad(output, list(model.parameters()), dy)
    names = [name for name, _ in model.named_parameters()]
    return {"output": output.detach(), **dict(zip(names, gradients, strict=True))}
