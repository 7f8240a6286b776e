"""A process that is paused for so long that another takes over: it wakes, makes no further step, and both say so."""

import os
import platform
import signal
from pathlib import Path

import pytest

import tests.support.tiny as tiny
from diffussm.run import runner
from diffussm.run.claim import assume_owner_dead
from diffussm.run.heartbeat import STALE_SECONDS, Liveness
from diffussm.run.runner import TaskRunner
from diffussm.run.tasks import pending_tasks
from diffussm.stopping import Superseded
from diffussm.store.rundir import RunDir
from diffussm.training import loop
from diffussm.training.trainer import Trainer
from tests.support.processes import FORKS
from tests.support.waiting import wait_for

STEPS = 60
SAVED = 8


def train_and_count(run: Path, steps_made: Path) -> None:
    """Train in a process of its own, and note every step as it is made."""
    step = Trainer.step

    def noted(trainer: Trainer) -> object:
        losses = step(trainer)
        with steps_made.open("a") as file:
            file.write(f"{trainer.state.step}\n")
        if trainer.state.step > SAVED:
            os.kill(os.getpid(), signal.SIGSTOP)
        return losses

    Trainer.step = noted  # type: ignore[method-assign, assignment]
    loop.OWNER_SECONDS = 0.0  # any pause is long
    with pytest.raises(Superseded):
        TaskRunner(run, to_logs=True).run_pending(assume_owner_dead)


def is_paused(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def steps(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def rows(run: RunDir, attempt: int) -> list[str]:
    return [row.split(",")[0] for row in run.loss_log(attempt).read_text().splitlines()]


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for paused processes in /proc")
def test_who_wakes_beside_a_second_launch_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny.run_folder(tmp_path / "runs", training__steps=STEPS, training__milestones=[SAVED, STEPS])
    made = tmp_path / "steps"
    paused = FORKS.Process(target=train_and_count, args=(run.path, made))
    paused.start()
    assert paused.pid
    wait_for(lambda: steps(made)[-1:] == [SAVED + 1] and is_paused(paused.pid or 0))
    assert run.trained_steps() == SAVED

    now = 0.0
    liveness = Liveness(clock=lambda: now)
    assert liveness.is_alive(run)
    now += STALE_SECONDS
    monkeypatch.setattr(runner, "redirect_output", lambda _: None)
    logged: list[str] = []
    monkeypatch.setattr("builtins.print", lambda *words, **_: logged.append(" ".join(map(str, words))))
    TaskRunner(run.path, to_logs=True).run_pending(liveness.is_alive, kinds=("train",))
    monkeypatch.undo()
    assert run.trained_steps() == STEPS
    assert run.state().phase == "done"
    before = f"attempt 1 (process {paused.pid} on {platform.node()})"
    assert f"attempt 2 takes over from {before}, last heard of at step {SAVED}" in logged

    state = run.state()
    os.kill(paused.pid, signal.SIGCONT)
    paused.join(60)
    assert paused.exitcode == 0
    assert steps(made) == list(range(1, SAVED + 2))  # none after it woke, nor any that was saved
    assert run.state() == state
    assert run.trained_steps() == STEPS
    after = f"attempt 2 (process {os.getpid()} on {platform.node()})"
    assert f"attempt 1 gives way: {after} owns the folder" in run.log_path(1).read_text()
    assert rows(run, 1) == ['{"step": 8']
    assert rows(run, 2)[0] == '{"step": 10'


def test_an_evaluation_that_is_superseded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tiny.run_folder(tmp_path, training__steps=8, training__milestones=[8])
    TaskRunner(run.path).run_pending(assume_owner_dead, kinds=("train",))
    (task,) = pending_tasks(run)
    folder = task.folder
    assert [folder.claim(), folder.claim()] == [1, 2]
    with pytest.raises(Superseded, match=r"attempt 2 \(process"):
        TaskRunner(run.path).execute(task, 1)
    assert folder.owner() == 2
    assert not list(folder.path.glob("record.json"))
    assert "takes over" not in capsys.readouterr().err  # attempt 1 never reported
