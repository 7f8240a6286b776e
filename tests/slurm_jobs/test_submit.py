"""The plan and the messages of a launch on a cluster; tests on a real cluster are in tests/slurm."""

import json
import os
from pathlib import Path

import pytest

from ablations import launch
from ablations.plan import snapshot
from ablations.slurm import submissions
from ablations.slurm.environment import scrubbed
from ablations.slurm.submissions import Submission
from ablations.status.scheduler import JobStatus
from ablations.status.states import state_of
from diffussm.errors import UserError
from diffussm.run.heartbeat import Liveness
from diffussm.run.tasks import request_key
from diffussm.store.rundir import RunDir
from diffussm.store.state import State
from tests.support import tiny
from tests.support.prepared_set import noise_images, write_prepared
from tests.support.tiny_grid import arguments


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the programs of SLURM, if they are installed."""
    monkeypatch.setenv("PATH", str(tmp_path))


def planned(capsys: pytest.CaptureFixture[str], runs: Path, *more: str) -> str:
    capsys.readouterr()
    assert launch.main(arguments(runs, "--executor", "slurm", "--dry-run", *more)) == 0
    return capsys.readouterr().out


def test_a_plan_describes_the_submission_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = planned(capsys, tmp_path / "runs", "--profile", "cpu", "--print-sbatch")
    assert "Array limit: 1000 (SLURM's default, because no cluster responds)" in text
    assert "Evaluations: one more job" in text
    assert text.count("#!/bin/bash") == 2
    assert "GPU-hours" not in text
    assert not (tmp_path / "runs").exists()


def test_jobs_expand_the_stage_on_their_nodes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFUSSM_STAGE", "")  # as it is after the test
    write_prepared(tmp_path / "set", noise_images(shape=(1, 8, 8)), classes=tuple("0123456789"))
    prepared = ("--set", "data.name=mine", "--set", f"data.root={tmp_path / 'set'}", "--profile", "cpu")
    text = planned(capsys, tmp_path / "runs", *prepared, "--print-sbatch", "--stage", "$SLURM_TMPDIR/data")
    assert text.count("export DIFFUSSM_STAGE='$SLURM_TMPDIR/data'") == 2
    with pytest.raises(UserError, match=r"^--stage \$SLURM_TMPDIR: the environment variable is not set here"):
        launch.main(arguments(tmp_path / "runs", *prepared[:4], "--dry-run", "--stage", "$SLURM_TMPDIR"))
    with pytest.raises(UserError, match=r"^--stage /fast: not used: digits: only prepared data sets are copied"):
        planned(capsys, tmp_path / "runs", "--stage", "/fast")


def test_gpu_hours_are_an_estimate_at_a_stated_utilisation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    four = ("--set-slurm", "ntasks_per_node=4", "--set-slurm", "gpus_per_node=4")
    text = planned(capsys, tmp_path, *four)
    assert "GPU-hours, estimated: " in text
    assert "an A100 at 3.41 T MACs/s in float32, 35% of its peak" in text
    found = json.loads(planned(capsys, tmp_path, "--json", *four))
    assert found["gpus_per_job"] == [4]
    macs = found["training_macs_left"]
    assert found["training_gpu_hours"] == pytest.approx(macs / (0.35 * 9.75e12) / 3600)
    assert found["arrays"] == [3]


def test_a_batch_smaller_than_the_tasks_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"training.batch = 7: smaller than the number of its tasks, 8"):
        launch.main(arguments(tmp_path / "runs", "--executor", "slurm"))
    assert not (tmp_path / "runs").exists()


def test_a_throttle_is_in_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = planned(capsys, tmp_path, "--profile", "cpu", "--set-slurm", "throttle=1")
    assert "at most 1 at a time" in text


def test_without_a_cluster_nothing_is_submitted(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no sbatch here"):
        launch.main(arguments(tmp_path, "--executor", "slurm", "--profile", "cpu"))


def test_an_unknown_profile_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown name 'a10'"):
        launch.main(arguments(tmp_path / "runs", "--executor", "slurm", "--profile", "a10"))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("option", [["--profile", "cpu"], ["--set-slurm", "time=5"], ["--print-sbatch", "--dry-run"]])
def test_options_of_the_cluster_need_its_executor(tmp_path: Path, option: list[str]) -> None:
    with pytest.raises(UserError, match="need --executor slurm"):
        launch.main(arguments(tmp_path, *option))


def test_the_environment_of_jobs_is_scrubbed(monkeypatch: pytest.MonkeyPatch) -> None:
    misleading = {
        "SLURM_JOB_ID",
        "SLURM_PROCID",
        "WORLD_SIZE",
        "MASTER_ADDR",
        "CUDA_VISIBLE_DEVICES",
        "SUBMITIT_FOLDER",
    }
    meant = {"SLURM_CONF", "SBATCH_ACCOUNT", "MINE"}
    for name in misleading | meant:
        monkeypatch.setenv(name, "1")
    with scrubbed():
        assert meant <= set(os.environ)
        assert not misleading & set(os.environ)
    assert os.environ["SLURM_JOB_ID"] == "1"


def test_a_job_number_that_is_taken_is_refused(tmp_path: Path) -> None:
    Submission(job="12", kind="train", runs=("a",), code="code").write(tmp_path)
    with pytest.raises(UserError, match="already exists, from another cluster"):
        Submission(job="12", kind="train", runs=("b",), code="code").write(tmp_path)


def test_steps_without_a_checkpoint_are_trained_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A heartbeat may report steps that a kill has lost."""
    assert launch.main(arguments(tmp_path, "--executor", "debug", "--only", "M = 2*")) == 0
    (run,) = [RunDir(path.parent) for path in tmp_path.glob("*m2p1*/config.json")]
    for path in (*run.path.glob("checkpoints/*"), *run.path.glob("milestones/*/*/record.json")):
        path.unlink()
    assert run.state().step == 24
    plan = json.loads(planned(capsys, tmp_path, "--json", "--profile", "cpu", "--only", "M = 2*"))
    assert plan["arrays"] == [1]


def test_a_failed_training_is_not_submitted_and_its_milestones_are_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert launch.main(arguments(tmp_path, "--executor", "debug", "--only", "M = 2*")) == 0
    (run,) = [RunDir(path.parent) for path in tmp_path.glob("*m2p1*/config.json")]
    for path in (*run.path.glob("checkpoints/*"), run.record(8, next(run.path.glob("milestones/8/*/")).name)):
        path.unlink()
    code = snapshot.snapshot_path(tmp_path, ()).name
    run.write_state(run.state().updated(phase="diverged", reason="loss is nan", is_transient=False, code=code))
    plan = json.loads(planned(capsys, tmp_path, "--json", "--profile", "cpu", "--only", "M = 2*"))
    assert (plan["arrays"], plan["evaluator"]) == ([], True)


def test_the_jobs_of_each_run(tmp_path: Path) -> None:
    Submission(job="12", kind="train", runs=("a", "b"), code="code").write(tmp_path)
    Submission(job="9", kind="train", runs=("a",), code="code").write(tmp_path)
    Submission(job="13", kind="evaluate", runs=("a", "b"), code="code").write(tmp_path)
    assert submissions.jobs_of(submissions.find(tmp_path).submissions) == {
        "a": [("9", "train"), ("12_0", "train"), ("13", "evaluate")],
        "b": [("12_1", "train"), ("13", "evaluate")],
    }
    assert submissions.code_in_use(tmp_path) == {"code"}  # no scheduler answers, so it may be in use


class OneJob:
    """A scheduler with one job."""

    def __init__(self, state: str, reason: str = "", kind: str = "train"):
        self.job, self.kind = JobStatus("12_1", state, reason), kind

    def newest_job(self, run_id: str, kind: str) -> JobStatus | None:  # noqa: ARG002
        return self.job if kind == self.kind else None


def state_with(run: RunDir, scheduler: OneJob) -> tuple[str, bool]:
    (request,) = run.requests()
    key = request_key(run.path, request)
    state = state_of(run, request.steps, request.milestones, key, Liveness(by_mtime=True, clock=lambda: 0.0), scheduler)
    return state.name, state.needs_launch


@pytest.mark.parametrize(
    ("job_state", "name", "needs_launch"),
    [
        ("PENDING", "pending", False),
        ("RUNNING", "running", False),
        ("TIMEOUT", "timed out", True),
        ("OUT_OF_MEMORY", "out of memory", True),
        ("NODE_FAIL", "node failed", True),
        ("PREEMPTED", "preempted", True),
        ("FAILED", "failed", True),
        ("CANCELLED", "pending", True),
        ("UNKNOWN", "pending", True),
    ],
)
def test_the_state_of_the_job_where_the_folder_has_none(
    tmp_path: Path, job_state: str, name: str, needs_launch: bool
) -> None:
    assert state_with(tiny.run_folder(tmp_path), OneJob(job_state)) == (name, needs_launch)


def test_a_run_whose_job_is_held_needs_a_launch(tmp_path: Path) -> None:
    assert state_with(tiny.run_folder(tmp_path), OneJob("PENDING", "launch failed requeued held")) == ("pending", True)


@pytest.mark.parametrize("phase", ["preempted", "timed out"])
def test_the_folder_comes_before_the_scheduler(tmp_path: Path, phase: str) -> None:
    run = tiny.run_folder(tmp_path)
    run.claim()
    run.write_state(State(phase=phase, attempt=1, heartbeat=1, reason="at step 3"))
    assert state_with(run, OneJob("PENDING")) == (phase, False)
    run.write_state(State(phase="failed", attempt=1, heartbeat=1, reason="x", is_transient=False, code="y"))
    assert state_with(run, OneJob("RUNNING")) == ("failed", False)
    run.add_order("cancel")
    assert state_with(run, OneJob("RUNNING")) == ("cancelled", False)


def test_a_run_without_heartbeat_is_stale_whatever_the_scheduler_reports(tmp_path: Path) -> None:
    run = tiny.run_folder(tmp_path)
    run.claim()
    run.write_state(State(phase="train", mode="train", step=1, attempt=1, heartbeat=1))
    os.utime(run.path / "state.json", (1, 1))
    owner = run.path / "owner-1.json"
    owner.write_text(json.dumps(json.loads(owner.read_text()) | {"place": "elsewhere", "job": "12_1"}))
    assert state_with(run, OneJob("RUNNING")) == ("stale", False)
    assert state_with(run, OneJob("PENDING")) == ("pending", False)  # SLURM has requeued it
    assert state_with(run, OneJob("NODE_FAIL")) == ("node failed", True)
    owner.write_text(json.dumps(json.loads(owner.read_text()) | {"job": "99"}))
    assert state_with(run, OneJob("NODE_FAIL")) == ("stale", False)  # that job is older than the newest attempt
