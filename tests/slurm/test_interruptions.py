"""Runs that are cut off and go on: time limits, preemption, cancelling."""

from collections.abc import Callable
from pathlib import Path

from tests.slurm.cluster import Cluster
from tests.slurm.launching import ARM
from tests.slurm.slow import STEPS, Slow


def test_a_run_continues_after_its_time_limit(cluster: Cluster, tmp_path: Path) -> None:
    """A limit of a minute in a run that takes longer: saved, queued again, and the same to the bit in the end."""
    slow = Slow(cluster, tmp_path, "--set-slurm", "time=1", "--set-slurm", "signal=USR2@5")
    slow.runs.wait_for_state("timed out")
    assert slow.results() == slow.undisturbed()
    assert slow.run.owner() >= 2


def test_more_interruptions_than_submitit_would_allow(cluster: Cluster, tmp_path: Path) -> None:
    """submitit takes every signal in a job of ten minutes for a time-out, and gives up after three."""
    slow = Slow(cluster, tmp_path)
    for attempt in range(1, 5):
        slow.wait_for_step(1, attempt)
        cluster.run("scancel", "--signal=USR2", slow.job)
        cluster.wait_for(lambda: slow.run.state().phase == "preempted")
    assert slow.results() == slow.undisturbed()
    assert slow.run.owner() == 5


def test_preemption_by_a_higher_partition(own_cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    cluster = own_cluster(nodes=1, grace_time=5)
    cluster.command("up")
    slow = Slow(cluster, tmp_path, "--set-slurm", "partition=scavenge")
    slow.wait_for_step(10)
    cluster.submit("sleep 5", "--partition=a100", "--exclusive")
    slow.runs.wait_for_state("preempted")
    assert slow.results() == slow.undisturbed()
    assert slow.run.owner() == 2


def test_a_cancelled_job_stays_cancelled(cluster: Cluster, tmp_path: Path) -> None:
    """By scancel, also on the heels of a signal that asks to be queued again; launching again goes on from there."""
    slow = Slow(cluster, tmp_path)
    slow.wait_for_step(10)
    cluster.run("scancel", slow.job)
    cluster.wait_for(lambda: slow.job not in cluster.jobs())
    assert slow.run.state().phase == "stopped"
    assert slow.run.trained_steps() > 0
    cluster.wait_for(lambda: slow.runs.states()[ARM]["needs_launch"])  # once the evaluator has gone too
    assert slow.runs.state() == "pending"
    again = slow.launch()
    slow.wait_for_step(10, attempt=2)
    cluster.run("scancel", "--signal=USR2", again)
    cluster.run("scancel", again)
    cluster.wait_for(lambda: again not in cluster.jobs())
    assert slow.run.owner() == 2
    slow.launch()
    assert slow.results() == slow.undisturbed()
    assert slow.run.owner() == 3


def test_manage_cancels_running_and_pending_jobs(cluster: Cluster, tmp_path: Path) -> None:
    slow = Slow(cluster, tmp_path)
    slow.wait_for_step(10)
    array, *_ = slow.runs.launch("--set-slurm", "begin=now+1hour", **STEPS)  # the two other arms
    slow.runs.output_of("ablations/manage.py", "cancel")
    cluster.wait_for(lambda: not {slow.job, f"{array}_0", f"{array}_1"} & set(cluster.jobs()), 120)
    assert {row["state"] for row in slow.runs.states().values()} == {"cancelled"}
    arguments = slow.runs.grid("--executor", "slurm", "--profile", "cpu", **STEPS)
    refused = slow.runs.tried("ablations/launch.py", *arguments)
    assert refused.returncode == 1
    assert "Submitted" not in refused.stdout
    assert refused.stderr.count("not submitted: cancelled") == 3
    slow.runs.output_of("ablations/manage.py", "retry", "--cancelled")
    slow.launch()
    assert slow.results() == slow.undisturbed()
