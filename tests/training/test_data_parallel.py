"""One run by many processes: the same samples, the same losses, and the same bits when it is killed and taken up."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import tests.support.tiny as tiny
from diffussm.config import DataConfig
from diffussm.data.load import training_data
from diffussm.distributed.group import SINGLE_PROCESS, ProcessGroup
from diffussm.errors import UserError
from diffussm.models import blocks
from diffussm.training import parallel
from diffussm.training.parallel import local_micro_batches, wrap_ddp
from diffussm.training.trainer import Trainer
from tests.support.processes import join_ranks, start_ranks

STEPS = 20
VARIANTS: dict[str, dict[str, Any]] = {
    "uneven": {},
    "even": {"training__batch": 8},
    "dit": {"model__kind": "dit", "model__state": None, "model__hourglass": None, "model__heads": 2},
}
HOW: dict[str, dict[str, Any]] = {  # the same losses up to rounding
    "micro-batches": {"training__micro_batch": 2},
    "recomputation": {"training__checkpointing": "block"},
    "recomputation of micro-batches": {"training__checkpointing": "block", "training__micro_batch": 1},
    "all of it, compiled": {
        "training__compile": "block",
        "training__checkpointing": "block",
        "training__micro_batch": 3,
    },
}


def variant(name: str) -> Any:
    changes = {**{key.replace(".", "__"): value for key, value in tiny.SETTINGS.items()}, **(VARIANTS | HOW)[name]}
    from diffussm.config import resolve

    return resolve("digits", {key.replace("__", "."): value for key, value in changes.items() if value is not None})


# Parts


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_parts_are_neighbours_and_make_the_whole(count: int) -> None:
    for size in (count, count + 1, 17, 64):
        parts = [ProcessGroup(rank, count).local_range(size) for rank in range(count)]
        assert [i for start, number in parts for i in range(start, start + number)] == list(range(size))
        assert max(number for _, number in parts) - min(number for _, number in parts) <= 1


@pytest.mark.parametrize("largest", [0, 1, 2, 3])
@pytest.mark.parametrize(("count", "begun_by"), [(1, 1), (1, 4), (2, 4), (2, 3), (3, 3), (4, 2), (7, 1)])
def test_micro_batches_make_the_batch(count: int, begun_by: int, largest: int) -> None:
    parts = [local_micro_batches(7, ProcessGroup(rank, count), begun_by, largest) for rank in range(count)]
    assert [i for own in parts for start, number in own for i in range(start, start + number)] == list(range(7))
    assert all(parts)
    if largest:
        assert max(number for own in parts for _, number in own) <= largest
    else:
        assert sum(map(len, parts)) == max(count, begun_by)


@pytest.mark.parametrize(
    ("batch", "begun_by", "largest", "sizes"),
    [(8, 1, 3, [3, 3, 2]), (10, 2, 3, [3, 2, 3, 2]), (7, 2, 2, [2, 2, 2, 1]), (7, 1, 9, [7]), (7, 7, 3, [1] * 7)],
)
def test_micro_batches_are_few_and_nearly_equal(batch: int, begun_by: int, largest: int, sizes: list[int]) -> None:
    """Whoever computes them: bits depend on which images are summed together."""
    for count in range(1, begun_by + 1):
        ranks = [ProcessGroup(rank, count) for rank in range(count)]
        assert [n for rank in ranks for _, n in local_micro_batches(batch, rank, begun_by, largest)] == sizes


def test_more_processes_than_samples() -> None:
    with pytest.raises(UserError, match=r"training\.batch = 7: smaller than the number of processes, 8"):
        local_micro_batches(7, ProcessGroup(0, 8), 1)


@pytest.mark.parametrize("name", ["digits", "mnist", "photos"])
@pytest.mark.parametrize("size", [8, 13])
def test_data_cut_into_parts_is_the_same(name: str, size: int) -> None:
    data = training_data(DataConfig(name=name))
    for step in (0, 3, 1797 // size):  # the last one ends an epoch of the digits
        whole = data.batch(1, step, size)
        for count in (2, 4, 8):
            cut = [data.batch(1, step, size, *ProcessGroup(rank, count).local_range(size)) for rank in range(count)]
            for i in range(2):
                np.testing.assert_array_equal(np.concatenate([part[i] for part in cut]), whole[i])


@pytest.mark.parametrize("count", [2, 3, 7])
def test_images_labels_timesteps_and_noise_are_those_of_one_process(count: int) -> None:
    trainer = Trainer(tiny.config(training__label_dropout=0.5), "auto")
    for step in (0, 11):
        cut = [trainer.batches.draw(step, *ProcessGroup(rank, count).local_range(7)) for rank in range(count)]
        for whole, *parts in zip(trainer.batches.draw(step), *cut, strict=True):
            assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize(("device", "megabytes"), [("cpu", None), ("cuda", 100)])
def test_gradients_are_averaged_in_buckets(device: str, megabytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def recorded(_: Any, *, broadcast_buffers: bool, **options: Any) -> dict[str, Any]:
        return {"broadcast_buffers": broadcast_buffers, **options}

    monkeypatch.setattr(parallel, "DistributedDataParallel", recorded)
    monkeypatch.setattr(parallel, "gradient_group", lambda device: f"group of {device}")
    model: Any = SimpleNamespace(parameters=lambda: iter([SimpleNamespace(device=torch.device(device))]))
    found: Any = wrap_ddp(model, ProcessGroup(0, 2))
    assert found == {
        "process_group": f"group of {device}",
        "gradient_as_bucket_view": True,
        "bucket_cap_mb": megabytes,
        "broadcast_buffers": False,
    }


# Losses


@pytest.fixture(autouse=True)
def _without_inductor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "COMPILER", "aot_eager")


def losses(name: str, processes: ProcessGroup, micro_batches: int = 1) -> list[list[float]]:
    trainer = Trainer(variant(name), "auto", processes=processes, micro_batches=micro_batches)
    return [list(processes.all_reduce_sum([value.item() for value in trainer.step()])) for _ in range(STEPS)]


def each(processes: ProcessGroup, out: Path, hows: Sequence[str]) -> None:
    """What processes say to one another, and their losses."""
    blocks.COMPILER = "aot_eager"
    assert processes.broadcast(f"from {processes.rank}") == "from 0"
    assert processes.first_nonempty("") == ""
    assert processes.first_nonempty("" if processes.rank == 0 else f"{processes.rank}") == "1"
    assert processes.all_reduce_sum([1, processes.rank]) == [processes.world_size, sum(range(processes.world_size))]
    with pytest.raises(UserError, match="of the first"):
        processes.on_rank_zero(lambda: mistaken("of the first"))
    found = {name: losses(name, processes) for name in VARIANTS}
    for how in hows:
        found[how] = losses(how, processes)
    if processes.world_size == 2:
        found["four micro-batches"] = losses("uneven", processes, micro_batches=4)
    if processes.is_rank_zero:
        out.write_text(json.dumps(found))


def mistaken(words: str) -> None:
    raise UserError(words)


@pytest.mark.parametrize(
    ("count", "hows"),
    [
        (2, ["recomputation of micro-batches"]),
        pytest.param(2, list(HOW), marks=pytest.mark.slow),
        pytest.param(4, list(HOW), marks=pytest.mark.slow),
    ],
)
def test_losses_are_those_of_one_process(count: int, hows: list[str], tmp_path: Path) -> None:
    assert join_ranks(start_ranks(count, each, tmp_path / "losses.json", hows)) == [0] * count
    found = json.loads((tmp_path / "losses.json").read_text())
    for name, of_many in found.items():
        alone = losses(name if name in VARIANTS else "uneven", SINGLE_PROCESS)
        np.testing.assert_allclose(of_many, alone, rtol=1e-5, err_msg=name)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # of inputs of a graph, which the tracer looks at
@pytest.mark.parametrize("how", HOW)
def test_losses_do_not_depend_on_how_they_are_computed(how: str) -> None:
    np.testing.assert_allclose(losses(how, SINGLE_PROCESS), losses("uneven", SINGLE_PROCESS), rtol=1e-5)


def test_micro_batches_one_after_the_other() -> None:
    np.testing.assert_allclose(
        losses("uneven", SINGLE_PROCESS, micro_batches=3), losses("uneven", SINGLE_PROCESS), rtol=1e-5
    )
