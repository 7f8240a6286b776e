"""Claims of tasks: by one function, with the liveness rule as an argument."""

from pathlib import Path

import pytest

import tests.support.tiny as tiny
from diffussm.run.claim import assume_owner_dead, claim_task
from diffussm.run.runner import TaskRunner
from diffussm.run.tasks import Task, pending_tasks
from diffussm.stopping import Superseded
from diffussm.store.rundir import RunDir
from diffussm.store.workdir import WorkDir


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return tiny.run_folder(tmp_path)


def works(_: WorkDir) -> bool:
    return True


def test_the_liveness_rule_decides(run: RunDir) -> None:
    (training,) = pending_tasks(run)
    assert claim_task(training, works) is None
    assert run.owner() == 0
    assert claim_task(training, assume_owner_dead, job="7_1") == 1
    assert run.owner_process(1).job == "7_1"
    assert claim_task(training, assume_owner_dead) == 2


def test_only_the_owner_found_dead_is_superseded(run: RunDir) -> None:
    (training,) = pending_tasks(run)
    assert claim_task(training, assume_owner_dead, owner=0) == 1
    assert claim_task(training, assume_owner_dead, owner=0) is None
    assert claim_task(training, assume_owner_dead, owner=1) == 2


def test_what_is_done_is_not_claimed(run: RunDir) -> None:
    done = Task(run.path, "evaluate", 8, run.requests()[0].digest, "0" * 12)
    assert claim_task(done, assume_owner_dead) is None
    assert done.folder.owner() == 0


def test_a_runner_leaves_alone_what_another_process_works_on(run: RunDir) -> None:
    run.claim()
    with pytest.raises(Superseded, match="training: attempt 1 is at work in"):
        TaskRunner(run.path).run_pending(works)
    assert run.owner() == 1
