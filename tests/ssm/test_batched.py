"""`chunked` in its form for GPUs, run on CPUs: it computes what the form for CPUs does, and in lower precision errs as
dense layers do; it is an operator; recomputation frees what it keeps."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import AotEagerAndRecordGraphs
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from diffussm.config import resolve
from diffussm.models.build import initialise
from diffussm.models.diffussm import Block
from diffussm.precision import products
from diffussm.ssm.backends import GROUP, ONE_CHUNK, batched_chunks
from diffussm.ssm.chunked import batched, blocks, portable
from diffussm.ssm.inside import InsideOperators
from diffussm.ssm.parameters import S4DParameters
from diffussm.ssm.reference import recurrence
from tests.support import plain_s4d as plain
from tests.support.accuracy import assert_as_accurate
from tests.support.live_bytes import Made
from tests.support.s4d_layers import layer, outputs_and_gradients, sequences

LENGTHS = [1, 3, 16, 63, ONE_CHUNK, ONE_CHUNK + 1, 257, 1000]
GROUPS_OF_GROUPS = GROUP * ONE_CHUNK + 1


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Layers compute as on a GPU."""
    monkeypatch.setattr(portable, "is_batched", lambda _: True)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("length", "chunk", "groups"),
    [(1, 16, (1,)), (100, 112, (1,)), (129, 80, (2,)), (1024, 128, (8,)), (1025, 128, (5, 2)), (4096, 128, (8, 4))],
)
def test_how_sequences_are_cut(length: int, chunk: int, groups: tuple[int, ...]) -> None:
    assert batched_chunks(length) == (chunk, groups)


def test_chunks_hold_a_sequence_and_little_more() -> None:
    for length in (*range(1, 300), *range(1000, 70000, 777)):
        cut = batched_chunks(length)
        assert cut.length % 16 == 0
        assert cut.length <= ONE_CHUNK
        assert max(cut.groups) <= GROUP
        assert length <= cut.padded < 1.25 * length + ONE_CHUNK


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("length", [*LENGTHS, GROUPS_OF_GROUPS])
def test_it_computes_what_blocks_do(length: int, bidirectional: bool) -> None:
    made, (u, dy) = layer(6, 8, bidirectional).double(), (x.double() for x in sequences(3, length, 6))
    found, expected = (outputs_and_gradients(made, u, dy, form.convolve) for form in (batched, blocks))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")
    made, u, dy = made.float(), u.float(), dy.float()
    found, expected = (outputs_and_gradients(made, u, dy, form.convolve) for form in (batched, blocks))
    for name, value in expected.items():
        assert (found[name] - value).abs().max() <= 2e-6 * value.abs().max(), name


def test_groups_of_groups_of_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffussm.ssm.backends.GROUP", 2)
    assert batched_chunks(1000).groups == (2, 2, 2)
    test_it_computes_what_blocks_do(1000, bidirectional=True)


@pytest.mark.parametrize("length", [3, 100, 257])
def test_it_is_as_accurate_as_a_plain_computation_in_float32(length: int) -> None:
    made, (u, dy) = layer(4, 64), sequences(2, length, 4)
    found, trusted = (outputs_and_gradients(made, u, dy, one) for one in (batched.convolve, plain.recurrence))
    for name, exact in outputs_and_gradients(made.double(), u.double(), dy.double(), recurrence).items():
        assert_as_accurate(found[name], trusted[name], exact, name)


# Lower precision


def relative_error(found: Tensor, exact: Tensor) -> float:
    return ((found.double() - exact).norm() / exact.norm()).item()


def errors_of_dense_layers(width: int, u: Tensor, dy: Tensor) -> tuple[float, float, float]:
    """The largest errors of W_0 and W_down, by their sizes, under autocast: output, gradients of input and weights."""
    found = []
    for inputs, outputs in ((width, 2 * width), (width, width)):
        dense, exact = (nn.Linear(inputs, outputs) for _ in range(2))
        exact.load_state_dict(dense.state_dict())
        results = []
        for one, dtype in ((dense, torch.float32), (exact.double(), torch.float64)):
            x = u.to(dtype).requires_grad_()
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.float32):
                y = one(x)
            gradients = torch.autograd.grad(y, [x, one.weight], dy[..., :outputs].to(y.dtype))
            results.append([y.detach(), *gradients])
        found.append([relative_error(*pair) for pair in zip(*results, strict=True)])
    y, of_input, of_weights = (max(errors) for errors in zip(*found, strict=True))
    return y, of_input, of_weights


@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize("length", [64, 257, 1000, 4096])
def test_in_bf16_it_errs_at_most_twice_as_dense_layers(length: int) -> None:
    width = 16 if length <= 1000 else 4
    u, dy = (x.bfloat16().float() for x in sequences(2, length, width))
    made = layer(width, 64, backend="chunked")
    exact = outputs_and_gradients(made.double(), u.double(), dy.double(), blocks.convolve)
    made = made.float()
    with torch.autocast("cpu", torch.bfloat16):
        found = outputs_and_gradients(made, u, dy.bfloat16())
    assert (found["y"].dtype, found["u"].dtype) == (torch.bfloat16, torch.float32)
    y, of_input, of_weights = errors_of_dense_layers(width, u, dy)
    assert relative_error(found.pop("y"), exact["y"]) <= 2 * y
    assert relative_error(found.pop("u"), exact["u"]) <= 2 * of_input
    for name, value in found.items():
        assert value.dtype == torch.float32
        assert relative_error(value, exact[name]) <= 2 * of_weights, name


class Tf32(TorchDispatchMode):
    """Rounds the inputs of products of float32 to 10 bits of mantissa, as GPUs do in that precision."""

    products = frozenset(getattr(torch.ops.aten, name) for name in ("mm", "bmm", "addmm", "baddbmm", "baddbmm_"))

    def __torch_dispatch__(self, operator: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        if operator.overloadpacket in self.products and torch.backends.cuda.matmul.fp32_precision == "tf32":
            sums, factors = args[:-2], args[-2:]
            args = (*sums, *(self.rounded(factor) for factor in factors))
        return operator(*args, **(kwargs or {}))

    @staticmethod
    def rounded(x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            return x
        return ((x.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


@pytest.mark.parametrize("length", [64, 257, 1000])
def test_in_tf32_it_errs_at_most_twice_as_dense_layers(length: int) -> None:
    """TF32 is emulated."""
    u, dy = sequences(2, length, 16)
    made = layer(16, 64)
    exact = outputs_and_gradients(made.double(), u.double(), dy.double(), blocks.convolve)
    made = made.float()
    with products(tf32=True), Tf32(), InsideOperators():
        found = outputs_and_gradients(made, u, dy, batched.convolve)
    dense = nn.Linear(16, 16)
    results = []
    for dtype in (torch.float32, torch.float64):
        x, one = u.to(dtype).requires_grad_(), dense.to(dtype)
        with products(tf32=True), Tf32():
            results.append([y := one(x), *torch.autograd.grad(y, [x, one.weight], dy[..., :16].to(dtype))])
    y, of_input, of_weights = (relative_error(*pair) for pair in zip(*results, strict=True))
    assert 1e-5 < y < 1e-3
    assert relative_error(found.pop("y"), exact["y"]) <= 2 * y
    assert relative_error(found.pop("u"), exact["u"]) <= 2 * of_input
    for name, value in found.items():
        assert relative_error(value, exact[name]) <= 2 * of_weights, name


# As an operator


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # of torch's own check
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [7, ONE_CHUNK + 5])
def test_what_torch_asks_of_an_operator(length: int, dtype: torch.dtype) -> None:
    u, dy = (x.to(dtype) for x in sequences(2, length, 3))
    p = S4DParameters(*layer(3, 4).parameters())
    forward, backward = (getattr(torch.ops.diffussm, f"s4d_chunked_batched{end}").default for end in ("", "_backward"))
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(forward, (u.requires_grad_(), *p, True), test_utils=tests)
    _, kept = forward(u, *p, True)
    torch.library.opcheck(backward, (dy, kept, *p, True), test_utils=("test_schema", "test_faketensor"))


def block(image_size: int) -> Block:
    model = resolve("digits", {"model.width": 16, "model.state": 4, "model.image_size": image_size}).model
    made = Block(model, "chunked")
    initialise(made, 0)
    nn.init.normal_(made.adaLN_modulation[1].weight)  # its initial zeros would switch the block off
    return made


def results(compute: Any, made: Block, length: int, precision: str) -> list[Tensor]:
    x = torch.linspace(-1, 1, 3 * length * 16).view(3, length, 16).requires_grad_()
    made.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        y = compute(x, torch.ones(3, 16))
    y.square().sum().backward()
    return [y.detach(), *(tensor.grad for tensor in (x, *made.parameters()) if tensor.grad is not None)]


@pytest.mark.usefixtures("on_gpu")
@pytest.mark.filterwarnings("ignore:Your compiler for AOTAutograd")  # what records the graphs
@pytest.mark.parametrize(
    ("image_size", "precision"),
    [
        (12, "bf16"),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((12, "float32"), (8, "bf16"), (8, "float32"))),
    ],
)
def test_a_compiled_block_is_one_graph_with_the_operator(image_size: int, precision: str) -> None:
    made, graphs = block(image_size), AotEagerAndRecordGraphs()
    compiled = torch.compile(made, fullgraph=True, backend=graphs)
    found, expected = (results(one, made, image_size**2 // 2, precision) for one in (compiled, made))
    assert len(found) == len(expected) > 10
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    for graphs_of_a_pass, suffix in ((graphs.fw_graphs, ""), (graphs.bw_graphs, "_backward")):
        (graph,) = graphs_of_a_pass
        called = [str(node.target) for node in graph.graph.nodes if "s4d" in str(node.target)]
        assert called == [f"diffussm.s4d_chunked_batched{suffix}.default"]


@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_recomputation_of_a_block_frees_what_s4d_keeps(precision: str) -> None:
    """Between the passes there is nothing of the size of the input and states that the mixer keeps; what it keeps is in
    the precision of dense layers."""
    made, x, condition = block(16), torch.randn(3, 128, 16, requires_grad=True), torch.ones(3, 16)
    size = 2 if precision == "bf16" else 4
    inputs_and_states = size * 16 * (ONE_CHUNK + 2 * 4) * 2 * 3  # 2 chunks of 3 sequences
    weights = {parameter.untyped_storage()._cdata for parameter in made.parameters()}
    live = {}
    for name in ("plain", "again"):
        with Made() as tensors, torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            y = checkpoint(made, x, condition, use_reentrant=False) if name == "again" else made(x, condition)
        gc.collect()
        made_and_live = {key: one for key, (storage, one) in tensors.storages.items() if not storage.expired()}
        sizes = [one for key, one in made_and_live.items() if key not in weights]
        live[name] = (sizes.count(inputs_and_states), sum(sizes) - y.untyped_storage().nbytes())
        y.sum().backward()
    assert live["plain"][0] == 1
    assert live["again"] == (0, pytest.approx(0, abs=100))
