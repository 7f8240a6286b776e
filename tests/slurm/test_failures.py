"""Failures inside a job are reported, and retried only where that may help."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.faults import trouble, until
from tests.slurm.launching import BRIEF, Runs

FAILING, OTHER = "M = 1, P = 1", "M = 2, P = 1"
TWO_TASKS = ["--set-slurm", "ntasks-per-node=2"]


def test_what_raises_is_not_tried_again_before_that_is_ordered(cluster: Cluster, tmp_path: Path) -> None:
    """Another run goes on meanwhile, and one evaluator serves both, whenever their weights come."""
    mended, enough = tmp_path / "mended", tmp_path / "enough"
    code = until(mended, "if config.model.hourglass == 1: raise ValueError('no such luck')") + "\n"
    code += until(enough, "if config.model.hourglass == 2: time.sleep(1)")
    runs = Runs(cluster, tmp_path / "runs")
    changes: dict[str, Any] = {"training__steps": 200, "training__milestones": [200]}
    arguments = ["--only", FAILING, "--only", OTHER, *trouble(tmp_path, code)]
    _, evaluator = runs.launch(*arguments, **changes)
    runs.wait_for_state("failed", arm=FAILING)
    assert runs.states()[FAILING]["reason"] == "ValueError: no such luck"
    assert "raise ValueError('no such luck')" in runs.output_of("ablations/manage.py", "logs", "*m1p1*")

    again = runs.grid("--executor", "slurm", "--profile", "cpu", *arguments, **changes)
    refused = runs.tried("ablations/launch.py", *again)
    assert refused.returncode == 1
    assert "Submitted" not in refused.stdout
    assert "not submitted: training: ValueError: no such luck" in refused.stderr

    mended.touch()
    runs.output_of("ablations/manage.py", "retry", "--failed")
    assert len(runs.launch(*arguments, **changes)) == 1
    enough.touch()
    for arm in (FAILING, OTHER):
        runs.wait_for_state("done", arm=arm)
    cluster.wait_for(lambda: evaluator not in cluster.jobs())


def test_the_failure_is_that_of_the_task_that_raised(cluster: Cluster, tmp_path: Path) -> None:
    code = "if steps == 3 and rank == 1: raise ValueError('no such luck')"
    runs = Runs(cluster, tmp_path / "runs")
    job, run = runs.one(*TWO_TASKS, *trouble(tmp_path, code))
    runs.wait_for_state("failed", 150)
    assert runs.states()[OTHER]["reason"] == "rank 1: ValueError: no such luck"
    assert "raise ValueError('no such luck')" in run.log_path(1, rank=1).read_text()
    assert "==> log-1-1.txt <==" in runs.output_of("ablations/manage.py", "logs", "*m2p1*")
    cluster.wait_for(lambda: job not in cluster.jobs())


@pytest.mark.parametrize("which", ["cluster", "cluster_without_accounting"])
def test_a_killed_task_is_reported(which: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """By sacct, or by what slurmctld remembers, once its last sign of life is old, as it is made here."""
    runs = Runs(request.getfixturevalue(which), tmp_path / "runs")
    job, run = runs.one(*trouble(tmp_path, "os._exit(7)"))
    runs.cluster.wait_for(lambda: run.owner() == 1 and job not in runs.cluster.jobs())
    os.utime(run.path / "state.json", (1, 1))
    runs.wait_for_state("failed")
    assert f"job {job} ended (FAILED, exit code 7:0)" in runs.states()[OTHER]["reason"]


def test_a_grid_needs_no_accounting(cluster_without_accounting: Cluster, tmp_path: Path) -> None:
    runs = Runs(cluster_without_accounting, tmp_path / "runs")
    runs.one(**BRIEF)
    runs.wait_for_state("done")


def test_what_sbatch_refuses_leaves_nothing_behind(cluster: Cluster, tmp_path: Path) -> None:
    runs = Runs(cluster, tmp_path / "runs")
    arguments = runs.grid("--executor", "slurm", "--profile", "cpu", "--only", OTHER, **BRIEF)
    for _ in range(2):
        refused = runs.tried("ablations/launch.py", *arguments, "--set-slurm", "partition=nope")
        assert refused.returncode == 2
        assert refused.stderr.startswith("error: sbatch failed: ")
        assert "invalid partition" in refused.stderr
        assert refused.stderr.count("\n") == 1
        assert "Submitted" not in refused.stdout
    assert runs.state() == "pending"
    runs.one(**BRIEF)
    runs.wait_for_state("done")
