"""Runs that train from a prepared data set: resumed, shared by processes, staged, and from a disk that fails."""

import errno
import json
import os
import pickle
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tests.support.tiny as tiny
from diffussm.commands.train import STOPPED
from diffussm.commands.train import train as command
from diffussm.data import digits
from diffussm.data.prepared import reader
from diffussm.data.prepared.stage import staged
from diffussm.distributed.group import SINGLE_PROCESS, ProcessGroup
from diffussm.errors import UserError
from diffussm.run.claim import assume_owner_dead
from diffussm.run.runner import TaskRunner
from diffussm.run.tasks import is_done
from diffussm.stopping import Stopped, StopRequest
from diffussm.store.integrity.stamp import DamagedFile
from diffussm.store.rundir import RunDir
from diffussm.training.loop import train
from diffussm.training.trainer import Trainer
from tests.support.damage import cut, flip
from tests.support.prepared_set import write_prepared
from tests.support.processes import join_ranks, start_ranks
from tests.training.test_resume import assert_same

STEPS = 12  # of 7 images each: more than two epochs of the data set
SHARD = "pixels-00001.npy"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty digits, seven in a shard."""
    images, folder = digits.load(), tmp_path_factory.mktemp("digits") / "set"
    write_prepared(folder, images.pixels[:30], images.labels[:30], tuple(map(str, range(10))))
    return folder


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A copy of the data set, to be damaged."""
    return Path(shutil.copytree(folder, tmp_path / "own"))


@pytest.fixture(autouse=True)
def _no_thread_remains() -> Iterator[None]:
    yield
    assert readers() == []


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("read ahead")]


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    short = {"training__steps": STEPS, "training__milestones": [STEPS], "evaluation__samples": 4}
    return {
        **short,
        "data__name": "thirty",
        "data__root": str(folder),
        "data__flip": True,
        "evaluation__metrics": ["label_accuracy"],
        **changes,
    }


def work(run: RunDir) -> None:
    TaskRunner(run.path).run_pending(assume_owner_dead)


def trained(run: RunDir) -> Any:
    return torch.load(run.checkpoints()[0], weights_only=True)


@pytest.fixture(scope="module")
def undisturbed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    run = tiny.run_folder(tmp_path_factory.mktemp("undisturbed"), **settings(folder))
    work(run)
    assert is_done(run)
    return trained(run)


def test_images_are_those_of_a_set_in_memory(folder: Path) -> None:
    trainer = Trainer(tiny.config(**settings(folder, data__flip=False)), "auto")
    pixels = digits.load().pixels[:30]
    seen = torch.cat([trainer.batches.draw(step).images for step in range(30)])  # seven epochs
    found, counts = np.unique(np.rint((seen.numpy() + 1) * 127.5).astype(np.uint8), axis=0, return_counts=True)
    assert np.array_equal(found, np.unique(pixels, axis=0))
    assert set(counts) == {7}


def test_steps_are_the_same_without_the_thread(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny.config(**settings(folder))
    ahead = Trainer(config, "auto", micro_batches=3)
    monkeypatch.setattr("diffussm.training.trainer.MICRO_BATCHES_AHEAD", 0)
    direct, reads = Trainer(config, "auto", micro_batches=3), len(readers())
    for _ in range(STEPS):
        assert ahead.step() == direct.step()
    assert len(readers()) == reads + 1
    ahead.close()
    assert_same(ahead.state.model.state_dict(), direct.state.model.state_dict())


def test_embedded_data_need_no_thread() -> None:
    Trainer(tiny.config(), "auto").step()
    assert readers() == []


def test_a_run_that_is_stopped_within_an_epoch_ends_the_same(folder: Path, tmp_path: Path, undisturbed: Any) -> None:
    run, stop = tiny.run_folder(tmp_path, **settings(folder)), StopRequest()
    trainer = Trainer(run.config(), "auto")

    def report(step: int, loss: float, seconds: float) -> None:
        stop.set(Stopped("SIGTERM"))

    with pytest.raises(Stopped, match="at step 10"):
        train(run, trainer, run.claim(), {STEPS: ("ema",)}, 60.0, report, stop)
    trainer.close()
    work(run)
    assert_same(trained(run), undisturbed)


def test_a_signal_ends_the_thread_and_the_run_continues(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: Any
) -> None:
    run, usual = tiny.run_folder(tmp_path, **settings(folder)), Trainer.step

    def step(trainer: Trainer) -> Any:
        if trainer.state.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return usual(trainer)

    monkeypatch.setattr(Trainer, "step", step)
    assert command(str(run.path), {}, None, False, False, 60.0, False) == STOPPED
    assert run.trained_steps() == 6
    assert readers() == []
    monkeypatch.undo()
    work(run)
    assert_same(trained(run), undisturbed)


def losses(processes: ProcessGroup, folder: Path, out: Path) -> None:
    trainer = Trainer(tiny.config(**settings(folder)), "auto", processes=processes)
    found = [list(processes.all_reduce_sum([value.item() for value in trainer.step()])) for _ in range(STEPS)]
    trainer.close()
    if processes.is_rank_zero:
        np.save(out, found)


def test_processes_together_see_what_one_would(folder: Path, tmp_path: Path) -> None:
    losses(SINGLE_PROCESS, folder, tmp_path / "alone.npy")
    assert join_ranks(start_ranks(2, losses, folder, tmp_path / "two.npy")) == [0, 0]
    np.testing.assert_allclose(np.load(tmp_path / "two.npy"), np.load(tmp_path / "alone.npy"), rtol=1e-5)


def broken_reads(own: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """The disk reads nothing more after some images of the shard."""
    usual, calls = os.preadv, iter(range(10**6))

    def preadv(*arguments: Any) -> int:
        if next(calls) > 40:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return usual(*arguments)

    monkeypatch.setattr(reader.os, "preadv", preadv)
    return monkeypatch.undo


def cut_shard(own: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    content = (own / SHARD).read_bytes()
    cut(own / SHARD, 1)
    return lambda: (own / SHARD).write_bytes(content) and None


def damaged_shard(own: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    content = (own / SHARD).read_bytes()
    flip(own / SHARD, -1)
    return lambda: (own / SHARD).write_bytes(content) and None


def lost_shard(own: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    (own / SHARD).rename(own / "away")
    return lambda: (own / "away").rename(own / SHARD) and None


@pytest.mark.parametrize(
    ("fault", "reason", "is_transient"),
    [
        (broken_reads, "pixels-.*npy: cannot be read: Input/output error", True),
        (cut_shard, f"{SHARD}: is damaged at image 13 of the data set", False),
        (damaged_shard, f"{SHARD}: is damaged at image 13 of the data set", False),
        (lost_shard, f"{SHARD}: no such file", False),
    ],
)
def test_a_disk_that_fails_ends_the_run_in_one_line_and_it_can_be_resumed(
    fault: Callable[..., Callable[[], None]],
    reason: str,
    is_transient: bool,
    own: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    undisturbed: Any,
) -> None:
    run = tiny.run_folder(tmp_path / "runs", **settings(own))
    repair = fault(own, monkeypatch)
    with pytest.raises(UserError, match=reason) as raised:
        work(run)
    assert "\n" not in str(raised.value)
    state = run.state()
    assert (state.phase, state.reason, state.is_transient) == ("failed", str(raised.value), is_transient)
    repair()
    work(run)
    assert_same(trained(run), undisturbed)


def test_a_missing_folder_is_reported_before_the_run_starts(own: Path, tmp_path: Path, undisturbed: Any) -> None:
    run = tiny.run_folder(tmp_path / "runs", **settings(own))
    moved = own.rename(tmp_path / "moved")
    with pytest.raises(UserError, match=r"data\.name = thirty: needs a prepared data set, and no manifest\.json in"):
        work(run)
    moved.rename(own)
    work(run)
    assert_same(trained(run), undisturbed)


def test_a_run_trains_from_the_stage(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DIFFUSSM_STAGE", str(tmp_path / "fast"))
    run = tiny.run_folder(tmp_path / "runs", **settings(own))
    copy = staged(own, tmp_path / "fast")
    flip(copy / SHARD, -1)
    for shard in own.glob("pixels-*"):
        if shard.name != SHARD:
            flip(shard, -1)  # the copy is read
    work(run)
    assert_same(trained(run), undisturbed)
    assert json.loads((run.path / "provenance-1.json").read_text())["stage"] == str(tmp_path / "fast")
    assert f"{copy / SHARD}: is damaged: this copy is deleted" in capfd.readouterr().err
    assert (copy / SHARD).read_bytes() == (own / SHARD).read_bytes()


def test_a_stage_that_fails_is_that_of_the_machine(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: Any
) -> None:
    monkeypatch.setenv("DIFFUSSM_STAGE", "$NO_SUCH_VARIABLE")
    run = tiny.run_folder(tmp_path / "runs", **settings(folder))
    with pytest.raises(UserError, match=r"^--stage \$NO_SUCH_VARIABLE: the environment variable is not set here"):
        work(run)
    assert run.state().is_transient
    monkeypatch.setenv("DIFFUSSM_STAGE", "")
    work(run)
    assert_same(trained(run), undisturbed)


def test_a_rank_can_raise_what_another_found() -> None:
    for damage in (DamagedFile(Path("weights"), "its hash"), reader.DamagedShard(Path("shard"), 7)):
        assert str(pickle.loads(pickle.dumps(damage))) == str(damage)
