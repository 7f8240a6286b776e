"""Nodes that fail under a job: it goes on, and what comes out is what would have come out."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, OwnCluster
from tests.slurm.slow import Slow

TWO_NODES = ["--set-slurm", "nodes=2"]


@pytest.fixture
def breakable(own_cluster: OwnCluster) -> Cluster:
    """Two nodes, of which one is seen to be dead within seconds."""
    cluster = own_cluster(slurmd_timeout=5, message_timeout=2)
    cluster.command("up")
    return cluster


def lose(cluster: Cluster, node: int) -> None:
    """At once and for good: a node that is only down comes back, and gets the job while it still ends there."""
    for state in ("down", "drain"):
        cluster.run("scontrol", "update", f"nodename=a100-{node}", f"state={state}", "reason=test")


def test_a_slurmd_that_comes_back_in_time(own_cluster: OwnCluster, tmp_path: Path) -> None:
    cluster = own_cluster(nodes=1)
    cluster.command("up")
    slow = Slow(cluster, tmp_path)
    slow.wait_for_step(10)
    cluster.node("kill", 1)
    slow.wait_for_step(12)
    cluster.node("start", 1)
    assert slow.results() == slow.undisturbed()
    assert slow.run.owner() == 1


def test_a_node_set_down(breakable: Cluster, tmp_path: Path) -> None:
    slow = Slow(breakable, tmp_path)
    slow.wait_for_step(10)
    lose(breakable, slow.node())
    seen = set[str]()
    while slow.run.owner() < 2:
        seen.add(slow.runs.state())
        time.sleep(0.2)
    assert seen <= {"running", "pending", "stale", "node failed"}, seen
    assert slow.results() == slow.undisturbed()
    assert slow.run.owner() == 2


def test_one_of_two_nodes_crashes(own_cluster: OwnCluster, tmp_path: Path) -> None:
    cluster = own_cluster(nodes=3, slurmd_timeout=5, message_timeout=2)
    cluster.command("up")
    slow = Slow(cluster, tmp_path, *TWO_NODES)
    slow.wait_for_step(10)
    second = 2 if slow.node() == 1 else 1
    cluster.node("crash", second)
    slow.wait_for_step(8, attempt=2)
    done = slow.results()
    (tmp_path / "again").mkdir()
    undisturbed = Slow(cluster, tmp_path / "again", *TWO_NODES)
    assert done == undisturbed.results()


@pytest.mark.parametrize("frozen", [False, True], ids=["only slurmd", "all of it"])
def test_a_node_that_hangs_while_its_job_runs_elsewhere(breakable: Cluster, tmp_path: Path, frozen: bool) -> None:
    """The old copy stops, or wakes up when all is over; it spoils nothing."""
    slow = Slow(breakable, tmp_path)
    slow.wait_for_step(10)
    old, node = slow.run.owner_process(1).pid, slow.node()
    breakable.node("hang", node)
    if frozen:
        os.kill(old, signal.SIGSTOP)
    slow.wait_for_step(10, attempt=2)
    if not frozen:
        breakable.wait_for(lambda: not Path(f"/proc/{old}").exists())
    done = slow.results()
    assert frozen == Path(f"/proc/{old}").exists()
    assert done == slow.undisturbed()
    if frozen:
        os.kill(old, signal.SIGCONT)
    breakable.node("resume", node)
    breakable.wait_for(lambda: not Path(f"/proc/{old}").exists())
    assert slow.results() == done
    assert slow.run.owner() == 2
    assert slow.runs.state() == "done"


def test_without_requeue_the_next_launch_goes_on(breakable: Cluster, tmp_path: Path) -> None:
    slow = Slow(breakable, tmp_path, "--set-slurm", "requeue=", "--set-slurm", "no-requeue=true")
    slow.wait_for_step(10)
    lose(breakable, slow.node())
    slow.runs.wait_for_state("node failed")
    assert slow.runs.states()["M = 2, P = 1"]["needs_launch"]
    slow.launch()
    assert slow.results() == slow.undisturbed()
    assert slow.run.owner() == 2
