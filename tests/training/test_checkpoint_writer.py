"""Checkpoints are written by a thread: of the step at which they were begun, complete or not at all, and on a full disk
the training goes on."""

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import pytest
import torch

import tests.support.tiny as tiny
from diffussm.diffusion.gaussian import Losses
from diffussm.run.attempt import Attempt
from diffussm.run.claim import assume_owner_dead
from diffussm.run.runner import TaskRunner
from diffussm.stopping import Stopped
from diffussm.store import writing
from diffussm.store.integrity import hashed_file
from diffussm.store.rundir import RunDir
from diffussm.training.checkpoints import files
from diffussm.training.checkpoints.staging import Staging, staged_bytes
from diffussm.training.checkpoints.writer import CheckpointWriter
from diffussm.training.trainer import Trainer
from tests.support.faulty_disk import leftovers
from tests.support.processes import FORKS
from tests.support.waiting import wait_for

CPU = torch.device("cpu")
PATIENCE = 60.0  # seconds until a thread that waits for what never happens fails


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = tiny.run_folder(tmp_path, evaluation__metrics=["label_accuracy"])
    run.claim()
    return run


@pytest.fixture
def trainer(run: RunDir) -> Trainer:
    trainer = Trainer(run.config(), "auto")
    trainer.step()
    return trainer


def tensors(content: Any) -> list[torch.Tensor]:
    if isinstance(content, dict):
        return [tensor for part in content.values() for tensor in tensors(part)]
    return [content] if isinstance(content, torch.Tensor) else []


def same(found: Any, expected: Any) -> bool:
    pairs = list(zip(tensors(found), tensors(expected), strict=True))
    return len(pairs) > 20 and all(torch.equal(one, other) for one, other in pairs)


def begins_after(event: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a checkpoint be written only once the event is set."""
    usual = files.write

    def write(*arguments: Any) -> None:
        assert event.wait(PATIENCE)
        usual(*arguments)

    monkeypatch.setattr(files, "write", write)


def test_the_update_waits_for_what_reads_its_tensors(
    run: RunDir, trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The forward and the backward pass of the next step do not."""
    passed, expected = threading.Event(), Staging(CPU).copy(trainer.state.content())
    begins_after(passed, monkeypatch)
    backward = trainer._backward

    def passes(batch: Any) -> Losses:
        losses = backward(batch)
        passed.set()
        return losses

    monkeypatch.setattr(trainer, "_backward", passes)
    with CheckpointWriter(run, trainer.state, 1, print) as writer:
        writer.write((), False)
        trainer.step()
        assert not writer.is_busy
        assert [path.name for path in run.checkpoints()] == ["000000001-1.pt"]
    assert same(files.read(run.checkpoint(1, 1), run.run_id), expected)
    assert not same(trainer.state.content(), expected)


def test_a_copy_lets_the_training_go_on(run: RunDir, trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is of the step at which it was made, weights too."""
    updated, expected = threading.Event(), Staging(CPU).copy(trainer.state.content())
    begins_after(updated, monkeypatch)
    with CheckpointWriter(run, trainer.state, 1, print, Staging(CPU)) as writer:
        writer.write((), False)
        trainer.step()
        trainer.step()
        assert writer.is_busy
        updated.set()
        writer.write(("ema", "raw"), True)  # once the first is complete
        writer.wait()
    assert same(files.read(run.checkpoint(1, 1), run.run_id), expected)
    newest = files.read(run.checkpoint(3, 1), run.run_id)
    assert same(newest, trainer.state.content())
    assert run.weights(3, "ema").exists()
    assert run.weights(3, "raw").exists()


def test_staged_memory_is_the_state_s_and_used_again(trainer: Trainer) -> None:
    content = trainer.state.content()
    size = sum(tensor.nbytes for tensor in tensors(content))
    large = {name: torch.ones(1000, 1000) for name in "abc"} | {"none": torch.empty(0, 3), "step": 7}
    assert staged_bytes(large) <= 1.1 * 3 * 4_000_000
    assert size <= staged_bytes(content) <= trainer.state.most_bytes()
    staging = Staging(CPU)
    first = staging.copy(content)
    places = [tensor.data_ptr() for tensor in tensors(first)]
    assert same(first, content)
    trainer.step()
    again = staging.copy(trainer.state.content())
    assert [tensor.data_ptr() for tensor in tensors(again)] == places
    assert same(again, trainer.state.content())
    assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in tensors(again))
    copy = staging.copy(large)
    assert (copy["none"].shape, copy["step"]) == ((0, 3), 7)
    assert torch.equal(copy["c"], large["c"])


@pytest.mark.parametrize("staged", [False, True])
def test_what_the_thread_raises_is_raised_by_the_next_update(
    staged: bool, run: RunDir, trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    def fail(*_: object) -> None:
        failed.set()
        raise RuntimeError("the writer broke")

    monkeypatch.setattr(files, "write", fail)
    with (
        pytest.raises(RuntimeError, match="the writer broke"),
        CheckpointWriter(run, trainer.state, 1, print, Staging(CPU) if staged else None) as writer,
    ):
        writer.write((), False)
        assert failed.wait(PATIENCE)
        wait_for(lambda: not writer.is_busy)
        trainer.step()
    assert trainer.state.step == 1
    trainer.step()  # no writer is asked any more


@contextmanager
def full_disk(*names: str) -> Iterator[None]:
    """No room for files of these names."""
    usual = hashed_file.write_piece

    def write_piece(file: FileIO, piece: memoryview) -> None:
        usual(file, piece[:5])
        if any(name in str(file.name) for name in names):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        usual(file, piece[5:])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashed_file, "write_piece", write_piece)
        yield


def test_a_full_disk_fails_a_checkpoint_and_not_the_run(run: RunDir, capfd: pytest.CaptureFixture[str]) -> None:
    steps: list[list[str]] = []
    runner = TaskRunner(run.path, 0.0, on_progress=lambda *_: steps.append([path.name for path in run.checkpoints()]))
    with full_disk("000000016-2.pt", "000000020-2.pt"):
        runner.run_pending(assume_owner_dead, ("train",))
    assert run.trained_steps() == 24
    assert run.kept_milestones("ema") == [8, 16, 24]
    assert run.state().phase == "done"
    assert run.state().warning == ""  # the last checkpoint found room
    logged = capfd.readouterr().err
    for step in (16, 20):
        path = run.checkpoint(step, 2)
        lost = f"the training goes on without a checkpoint of step {step}"
        assert f"warning: {path}: No space left on device; {lost}\n" in logged
    assert leftovers(run.path) == []


@pytest.mark.parametrize("name", ["000000024-2.pt", "ema.safetensors"])
def test_on_a_full_disk_the_last_checkpoint_and_weights_fail_the_run(name: str, run: RunDir) -> None:
    with full_disk(name), pytest.raises(OSError, match="No space left on device") as caught:
        TaskRunner(run.path, 0.0).run_pending(assume_owner_dead, ("train",))
    path = run.checkpoint(24, 2) if name.endswith(".pt") else run.weights(8, "ema")
    state = run.state()
    assert (state.phase, state.reason) == ("failed", f"OSError: {path}: No space left on device")
    assert caught.value.filename == str(path)
    assert run.trained_steps() == (23 if name.endswith(".pt") else 7)
    TaskRunner(run.path).run_pending(assume_owner_dead, ("train",))
    assert run.trained_steps() == 24
    assert leftovers(run.path) == []


def test_a_stop_on_a_full_disk_is_a_failure(run: RunDir) -> None:
    runner = TaskRunner(run.path)
    runner.stop.set(Stopped("SIGTERM"))
    with full_disk("000000001-2.pt"), pytest.raises(OSError, match="No space left on device"):
        runner.run_pending(assume_owner_dead)
    assert run.state().phase == "failed"


def test_a_stop_waits_for_the_checkpoint(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()
    begins_after(asked, monkeypatch)
    timer = threading.Timer(0.0, asked.set)
    runner = TaskRunner(run.path)
    runner.stop.set(Stopped("SIGTERM"))
    timer.start()
    with pytest.raises(Stopped, match="SIGTERM at step 1"):
        runner.run_pending(assume_owner_dead)
    assert run.trained_steps() == 1
    timer.join()


def test_the_state_has_the_warning_until_it_is_over(run: RunDir) -> None:
    attempt = Attempt(run, 1, lambda: False)
    attempt.report(phase="start")
    attempt.warn("the disk is full")
    attempt.report(phase="train", step=1)
    assert run.state().warning == "the disk is full"
    attempt.warn("")
    attempt.report(phase="evaluate")
    assert run.state().warning == ""


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str, count: int) -> None:
    """Die before a call, after half of what a write is given."""
    usual, calls = getattr(owner, name), iter(range(1, 1000))

    def call(*arguments: Any, **options: Any) -> Any:
        if next(calls) == count:
            if name == "write_piece":
                usual(arguments[0], arguments[1][: len(arguments[1]) // 2])
            die()
        return usual(*arguments, **options)

    setattr(owner, name, call)


def after(owner: Any, name: str, _: int) -> None:
    usual = getattr(owner, name)
    setattr(owner, name, lambda *arguments, **options: die(usual(*arguments, **options)))


def write_third(path: Path, kill: str) -> None:
    torch.set_num_threads(1)
    hashed_file.SMALL, hashed_file.PIECE = 1 << 10, 1 << 12  # so the file is written in pieces
    run = RunDir(path)
    trainer = Trainer(run.config(), "auto")
    trainer.state.load_newest(run)
    trainer.step()
    when, place, count = KILLS[kill]
    when(*place, count)
    with CheckpointWriter(run, trainer.state, 1, print) as writer:
        writer.write((), True)


KILLS: dict[str, tuple[Callable[[Any, str, int], None], tuple[Any, str], int]] = {
    **{f"in write {n}": (before, (hashed_file, "write_piece"), n) for n in (1, 2, 5)},
    "before the digest": (before, (hashed_file, "overwrite_piece"), 1),
    "before it is on disk": (before, (writing, "flush_to_disk"), 1),
    "before it is renamed": (before, (os, "replace"), 1),
    "after it is renamed": (after, (os, "replace"), 1),
    "before the oldest is deleted": (before, (Path, "unlink"), 1),
}


@pytest.mark.parametrize("kill", KILLS)
def test_a_kill_leaves_the_one_before(kill: str, run: RunDir, trainer: Trainer) -> None:
    trainer.state.save(run, 1)
    trainer.step()
    trainer.state.save(run, 1)
    process = FORKS.Process(target=write_third, args=(run.path, kill))
    process.start()
    process.join(PATIENCE)
    assert process.exitcode == -signal.SIGKILL
    found = files.newest_intact(run)
    assert found is not None
    complete = kill in ("after it is renamed", "before the oldest is deleted")
    assert found[1]["step"] == (3 if complete else 2)
    assert len(run.checkpoints()) == (3 if complete else 2)
