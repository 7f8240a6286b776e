"""S4D's backends as operators: what torch checks of an operator, compiled graphs, and what autograd keeps."""

import gc
import shutil
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import AotEagerAndRecordGraphs
from torch.utils.checkpoint import checkpoint

from diffussm.config import ModelConfig, resolve
from diffussm.models.build import initialise
from diffussm.models.diffussm import Block
from diffussm.ssm.backends import ONE_CHUNK
from diffussm.ssm.parameters import S4DParameters
from diffussm.ssm.s4d import BACKENDS
from tests.support.live_bytes import Made
from tests.support.s4d_layers import layer, outputs_and_gradients, sequences

OPERATORS = tuple(BACKENDS)


@pytest.fixture(autouse=True)
def nothing_compiled_before() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # of torch's own check
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("length", [1, 7, ONE_CHUNK + 5])
@pytest.mark.parametrize("name", OPERATORS)
def test_what_torch_asks_of_an_operator(name: str, length: int, bidirectional: bool) -> None:
    """Its schema, its outputs without values (sizes, strides), its gradients in a traced graph, with any batch."""
    u, dy = sequences(2, length, 3)
    p = S4DParameters(*layer(3, 4, bidirectional).parameters())
    forward, backward = (getattr(torch.ops.diffussm, f"s4d_{name}{suffix}").default for suffix in ("", "_backward"))
    torch.library.opcheck(forward, (u.requires_grad_(), *p, bidirectional))
    made = forward(u, *p, bidirectional)
    kept = ([] if name == "chunked" else [u]) + ([] if isinstance(made, Tensor) else made[1])
    torch.library.opcheck(backward, (dy, kept, *p, bidirectional), test_utils=("test_schema", "test_faketensor"))


def block(backend: str, image_size: int = 8) -> tuple[Block, ModelConfig]:
    settings = {"model.width": 8, "model.state": 4, "model.image_size": image_size}
    model = resolve("digits", settings).model
    made = Block(model, backend)
    initialise(made, 0)
    torch.nn.init.normal_(made.adaLN_modulation[1].weight)  # its initial zeros would switch the block off
    return made, model


def results(compute: Callable[[Tensor, Tensor], Tensor], made: Block, length: int, batch: int) -> list[Tensor]:
    x = torch.linspace(0, batch * length * 8, batch * length * 8).sin().view(batch, length, 8).requires_grad_()
    made.zero_grad()
    y = compute(x, torch.ones(batch, 8))
    y.square().sum().backward()
    return [y.detach(), *(tensor.grad for tensor in (x, *made.parameters()) if tensor.grad is not None)]


@pytest.mark.filterwarnings("ignore:Your compiler for AOTAutograd")  # what records the graphs
@pytest.mark.parametrize(
    ("backend", "image_size"), [(name, size) for name in OPERATORS for size in (8, 12)] + [("auto", 8)]
)
def test_the_backend_asked_for_is_in_both_graphs_of_a_compiled_block(backend: str, image_size: int) -> None:
    """It computes there what it computes elsewhere, to the bit, and a batch of another size too."""
    made, model = block(backend, image_size)
    graphs = AotEagerAndRecordGraphs()
    compiled = torch.compile(made, fullgraph=True, backend=graphs)
    for batch in (2, 3):
        found, expected = (results(one, made, model.short_length, batch) for one in (compiled, made))
        assert len(found) == len(expected) > 10
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    name = "compiled" if backend == "auto" else backend
    for graphs_of_a_pass, suffix in ((graphs.fw_graphs, ""), (graphs.bw_graphs, "_backward")):
        for graph in graphs_of_a_pass:
            called = [str(node.target) for node in graph.graph.nodes if "s4d" in str(node.target)]
            assert called == [f"diffussm.s4d_{name}{suffix}.default"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.skipif(not shutil.which("g++"), reason="no compiler of C++")
@pytest.mark.parametrize("backend", OPERATORS)
def test_inductor_compiles_a_block(backend: str) -> None:
    made, model = block(backend, 12)
    compiled = torch.compile(made, fullgraph=True, backend="inductor")
    for batch in (2, 3):
        found, expected = (results(one, made, model.short_length, batch) for one in (compiled, made))
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6 * theirs.abs().max().item())


@pytest.mark.parametrize("backend", OPERATORS)
@pytest.mark.parametrize("length", [16, 256])
def test_recomputation_frees_what_autograd_would_keep(backend: str, length: int) -> None:
    """Between the passes of a layer that is computed again, there is nothing but its output and a few numbers."""
    made, (u, dy) = layer(4, 64, backend=backend), sequences(2, length, 4)
    found = {}
    for name in ("plain", "again"):
        u = u.detach().requires_grad_()
        with Made() as tensors:
            y = checkpoint(made, u, use_reentrant=False) if name == "again" else made(u)
        gc.collect()
        kept = tensors.live() - y.untyped_storage().nbytes()
        found[name] = (kept, *torch.autograd.grad(y, [u, *made.parameters()], dy))
    assert found["again"][0] < 100
    if backend in ("chunked", "fft"):  # the others make everything again in any case
        assert found["plain"][0] > u.untyped_storage().nbytes()
    for ours, theirs in zip(found["again"][1:], found["plain"][1:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("backend", OPERATORS)
@pytest.mark.parametrize("length", [16, 256])
def test_the_same_where_a_dispatch_mode_watches(backend: str, length: int) -> None:
    """Inside of an operator torch then takes a conjugate view for what it is a view of."""
    (u, dy), made = sequences(2, length, 4), layer(4, 64, backend=backend)
    expected = outputs_and_gradients(made, u, dy)
    with Made():
        found = outputs_and_gradients(made, u, dy)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("backend", OPERATORS)
def test_there_is_no_second_derivative(backend: str) -> None:
    u, dy = sequences(1, 5, 2)
    made = layer(2, 4, backend=backend)
    (gradient,) = torch.autograd.grad(made(u.requires_grad_()), u, dy.requires_grad_(), create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
