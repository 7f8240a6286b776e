"""Runs that are cut off and go on: time limits, preemption, cancelling."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.slurm.cluster import Cluster
from tests.slurm.launching import Runs, local_results, sleepy

ONE = ("--only", "M = 2*")
SLEEPY: dict[str, Any] = {"model__mixer": "trouble:Mixer", "training__steps": 400, "training__milestones": [200, 400]}


def until_it_trains(runs: Runs, attempt: int = 1) -> None:
    """That attempt, past its first steps."""
    (folder,) = [run for run in runs.folders() if "m2p1" in run.run_id]

    def trains() -> bool:
        said = folder.state()
        return said.get("attempt") == attempt and said.get("step", 0) > 0 and said["phase"] == "train"

    runs.cluster.wait_for(trains, 120)


def undisturbed(runs: Runs, changes: dict[str, Any]) -> dict[str, Any]:
    return local_results(runs.path.parent / "local", *runs.grid(*ONE, **changes), folder=runs.folder)


def done_results(runs: Runs) -> dict[str, Any]:
    """Of the runs that were launched, once they are done."""
    runs.wait_for_state("done", 180)
    return {run_id: found for run_id, found in runs.results().items() if found[0]}


def test_a_time_limit_is_no_end(cluster: Cluster, tmp_path: Path) -> None:
    """A minute's limit, a run of more than a minute: saved, queued again, and the same to the bit in the end."""
    runs = sleepy(cluster, tmp_path)
    slow = ("--set-slurm", "time=1", "--set-slurm", "signal=USR2@5", "--set-slurm", "environment.SLEEP_SECONDS=0.15")
    _, run = runs.one(*slow, **SLEEPY)
    runs.wait_for_state("timed out")
    assert done_results(runs) == undisturbed(runs, SLEEPY)
    assert run.owner() >= 2


def test_cut_off_oftener_than_submitit_would_allow(cluster: Cluster, tmp_path: Path) -> None:
    """submitit takes every signal in a job of ten minutes for a time-out, and gives up after three."""
    runs = sleepy(cluster, tmp_path)
    job, run = runs.one("--set-slurm", "environment.SLEEP_SECONDS=0.2", **SLEEPY)
    for attempt in range(1, 6):
        until_it_trains(runs, attempt)
        cluster.run("scancel", "--signal=USR2", job)
    assert done_results(runs) == undisturbed(runs, SLEEPY)
    assert run.owner() == 6


def test_preemption_by_a_higher_partition(own_cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    cluster = own_cluster(nodes=1)
    cluster.command("up")
    runs = sleepy(cluster, tmp_path)
    slow = ("--set-slurm", "partition=scavenge", "--set-slurm", "environment.SLEEP_SECONDS=0.1")
    _, run = runs.one(*slow, **SLEEPY)
    until_it_trains(runs)
    job = cluster.submit("sleep 8", "--partition=a100", "--exclusive")
    runs.wait_for_state("preempted")
    assert cluster.jobs().get(job) in ("RUNNING", "PENDING")
    assert done_results(runs) == undisturbed(runs, SLEEPY)
    assert run.owner() == 2


def test_what_is_cancelled_stays_cancelled(cluster: Cluster, tmp_path: Path) -> None:
    """By scancel, also on the heels of a signal that asks to be queued again; launching again goes on from there."""
    runs = sleepy(cluster, tmp_path)
    slow = ("--set-slurm", "environment.SLEEP_SECONDS=0.1")
    job, run = runs.one(*slow, **SLEEPY)
    until_it_trains(runs)
    cluster.run("scancel", job)
    cluster.wait_for(lambda: job not in cluster.jobs())
    assert run.state()["phase"] == "stopped"
    assert run.trained_steps() > 0
    found = runs.states()["M = 2, P = 1"]
    assert (found["state"], found["left"]) == ("pending", True)
    again, *_ = runs.launch(*ONE, *slow, **SLEEPY)
    until_it_trains(runs, 2)
    cluster.run("scancel", "--signal=USR2", again)
    cluster.run("scancel", again)
    cluster.wait_for(lambda: again not in cluster.jobs())
    before = run.owner()
    runs.launch(*ONE, **SLEEPY)
    assert done_results(runs) == undisturbed(runs, SLEEPY)
    assert run.owner() == before + 1


def test_manage_cancels_what_runs_and_what_waits(cluster: Cluster, tmp_path: Path) -> None:
    runs = sleepy(cluster, tmp_path)
    slow = ("--set-slurm", "environment.SLEEP_SECONDS=0.1", "--set-slurm", "throttle=1")
    array, evaluator = runs.launch(*slow, **SLEEPY)
    cluster.wait_for(lambda: any(run.state().get("step") for run in runs.folders()), 120)
    runs.said("ablations/manage.py", "cancel")
    cluster.wait_for(lambda: not any(job.startswith(array) or job == evaluator for job in cluster.jobs()), 90)
    assert {row["state"] for row in runs.states().values()} == {"cancelled"}
    refused = runs.tried("ablations/launch.py", *runs.grid("--executor", "slurm", "--profile", "cpu", **SLEEPY))
    assert refused.returncode == 1
    assert "Submitted" not in refused.stdout
    assert refused.stderr.count("not submitted: cancelled") == 3
    runs.said("ablations/manage.py", "retry", "--cancelled")
    runs.launch(*ONE, **SLEEPY)
    assert done_results(runs) == undisturbed(runs, SLEEPY)
