"""Blocks compiled in training: which graphs there are, what is in them, and what they compute."""

import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.testing import AotEagerAndRecordGraphs
from torch._inductor import cpp_builder, exc

import tests.support.tiny as tiny
from diffussm.config import BACKEND_NAMES, resolve
from diffussm.errors import UserError
from diffussm.models import blocks
from diffussm.training.trainer import Trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:Your compiler for AOTAutograd"),  # what records the graphs
    pytest.mark.filterwarnings("ignore:The .grad attribute"),  # of inputs of a graph, which the tracer looks at
]
OTHERS = [name for name in BACKEND_NAMES if name != "compiled"]
OTHER_MODELS: list[dict[str, Any]] = [
    {"model__mixer": "attention", "model__state": None, "model__heads": 2},
    {"model__kind": "dit", "model__state": None, "model__hourglass": None, "model__heads": 2},
]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield
    torch.compiler.reset()


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> AotEagerAndRecordGraphs:
    """The graphs that are made; they are run as they are."""
    recorded = AotEagerAndRecordGraphs()
    monkeypatch.setattr(blocks, "COMPILER", recorded)
    return recorded


def losses(steps: int, backend: str = "auto", **changes: Any) -> list[float]:
    settings = {**tiny.SETTINGS, **{key.replace("__", "."): value for key, value in changes.items()}}
    trainer = Trainer(resolve("digits", {k: v for k, v in settings.items() if v is not None}), backend)
    return [trainer.step().total.item() for _ in range(steps)]


@pytest.mark.parametrize("backend", ["compiled", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_blocks_share_a_graph_for_each_number_of_images(backend: str, graphs: AotEagerAndRecordGraphs) -> None:
    """In both passes there is the operator of the backend that the trainer was given, which records name."""
    settings = {"model__depth": 2, "training__micro_batch": 4}  # 4 and 3 images
    compiled = losses(3, backend, training__compile="block", **settings)
    assert compiled == pytest.approx(losses(3, backend, **settings), rel=1e-6)
    assert len(graphs.fw_graphs) == len(graphs.bw_graphs) == 2
    for made, operator in ((graphs.fw_graphs, f"s4d_{backend}"), (graphs.bw_graphs, f"s4d_{backend}_backward")):
        for graph in made:
            found = [str(node.target) for node in graph.graph.nodes if "s4d" in str(node.target)]
            assert found == [f"diffussm.{operator}.default"]


def test_names_of_parameters_stay(graphs: AotEagerAndRecordGraphs) -> None:
    plain, compiled = (Trainer(tiny.config(training__compile=how), "auto") for how in ("none", "block"))
    assert list(compiled.state.model.state_dict()) == list(plain.state.model.state_dict())
    assert graphs.graphs == []


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    with pytest.raises(UserError, match=r"^training\.compile = block: needs a compiler of C\+\+.*--compile none"):
        Trainer(tiny.config(training__compile="block"), "auto")


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"training__precision": "bf16"}, *OTHER_MODELS])
@pytest.mark.parametrize("checkpointing", ["none", "block"])
def test_every_model_compiles(changes: dict[str, Any], checkpointing: str, graphs: AotEagerAndRecordGraphs) -> None:
    found = losses(3, training__compile="block", training__checkpointing=checkpointing, **changes)
    assert found == pytest.approx(losses(3, **changes), rel=1e-5)
    assert len(graphs.fw_graphs) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # inductor's own
@pytest.mark.skipif(not shutil.which("g++"), reason="no compiler of C++")
def test_inductor() -> None:
    np.testing.assert_allclose(losses(20, training__compile="block"), losses(20), rtol=1e-5)
