"""The shared clusters are what later tests take them for."""

import os

import pytest

from tests.slurm.cluster import Cluster


def test_two_nodes_are_two_nodes(cluster: Cluster) -> None:
    nodes = cluster.run("srun", "--nodes=2", "printenv", "SLURMD_NODENAME").split()
    assert len(set(nodes)) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="hosts have names of their own for root only")
def test_hosts_have_the_names_of_their_nodes(cluster: Cluster) -> None:
    names = cluster.run("srun", "--nodes=2", "bash", "-c", "echo $SLURMD_NODENAME $(hostname)").splitlines()
    assert len(names) == 2
    for line in names:
        node, host = line.split()
        assert node == host


def test_a_job_sees_the_gpus_that_it_asked_for(cluster: Cluster) -> None:
    visible = cluster.run("srun", "--gres=gpu:a100:3", "printenv", "CUDA_VISIBLE_DEVICES")
    assert len(set(visible.strip().split(","))) == 3


def test_nine_gpus_of_eight_are_refused(cluster: Cluster) -> None:
    refused = cluster.tried("sbatch", "--gres=gpu:9", "--wrap=true")
    assert "Requested node configuration is not available" in refused.stderr


def test_accounting_keeps_how_a_job_ended(cluster: Cluster) -> None:
    job = cluster.submit("exit 7")
    query = ("sacct", "--allocations", "--parsable2", "--noheader", "--format=State,ExitCode", f"--jobs={job}")
    cluster.wait_for(lambda: cluster.run(*query).strip() == "FAILED|7:0")


def test_there_may_be_no_accounting(cluster_without_accounting: Cluster) -> None:
    assert cluster_without_accounting.run("srun", "echo", "ran") == "ran\n"
    refused = cluster_without_accounting.tried("sacct")
    assert "Slurm accounting storage is disabled" in refused.stderr


def test_arrays_are_short(cluster: Cluster) -> None:
    assert cluster.submit("true", "--array=0-7")
    refused = cluster.tried("sbatch", "--array=0-8", "--wrap=true")
    assert "Invalid job array specification" in refused.stderr


def test_a_requeued_job_starts_again_within_seconds(cluster: Cluster) -> None:
    job = cluster.submit("sleep $((SLURM_RESTART_COUNT ? 0 : 60))")
    cluster.wait_for(lambda: cluster.jobs().get(job) == "RUNNING")
    cluster.run("scontrol", "requeue", job)
    cluster.wait_for(lambda: job not in cluster.jobs())
    assert " JobState=COMPLETED " in cluster.run("scontrol", "show", "job", "--oneliner", job)
