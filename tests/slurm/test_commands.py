"""up, down, status and node of slurm/local_cluster."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.slurm.cluster import COMMANDS, Cluster, OwnCluster


def test_down_leaves_no_process(own_cluster: OwnCluster) -> None:
    cluster = own_cluster(accounting="dbd", nodes=1)
    cluster.command("up")
    job = cluster.submit("trap '' TERM; sleep 300 & srun sleep 300")
    cluster.wait_for(lambda: cluster.jobs().get(job) == "RUNNING")
    assert job in cluster.command("status").split()
    cluster.command("down")
    assert cluster.processes() == set()
    assert cluster.tried(COMMANDS / "status").returncode == 3


def test_a_cluster_goes_down_beside_another(own_cluster: OwnCluster, cluster: Cluster) -> None:
    other = own_cluster()
    other.command("up")
    other.command("down")
    assert cluster.run("srun", "echo", "ran") == "ran\n"


def test_what_did_start_is_gone_when_the_rest_does_not(own_cluster: OwnCluster, tmp_path: Path) -> None:
    cluster = own_cluster()
    (tmp_path / "slurmctld").symlink_to(shutil.which("false") or "")
    failed = cluster.tried(COMMANDS / "up", env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert failed.returncode == 1
    assert "slurmctld did not start" in failed.stderr
    assert cluster.processes() == set()


def test_up_installs_nothing(own_cluster: OwnCluster, tmp_path: Path) -> None:
    cluster = own_cluster()
    for program in ("bash", "env"):
        (tmp_path / program).symlink_to(shutil.which(program) or "")
    refused = cluster.tried(COMMANDS / "up", env={"PATH": str(tmp_path)})
    assert refused.returncode == 2
    assert "not installed: munged slurmctld slurmd" in refused.stderr
    assert "local_cluster/install" in refused.stderr
    assert not list(cluster.root.iterdir())


def test_up_keeps_a_folder_that_holds_something_else(own_cluster: OwnCluster) -> None:
    cluster = own_cluster()
    (cluster.root / "thesis.tex").touch()
    refused = cluster.tried(COMMANDS / "up")
    assert refused.returncode == 2
    assert (cluster.root / "thesis.tex").exists()


@pytest.mark.parametrize(("knob", "value"), [("NODES", "0"), ("PORTS", "x"), ("ACCOUNTING", "yes"), ("ROOT", "a b")])
def test_up_names_a_knob_that_is_wrong(own_cluster: OwnCluster, knob: str, value: str) -> None:
    refused = own_cluster().tried(COMMANDS / "up", env={f"CLUSTER_{knob}": value})
    assert refused.returncode == 2
    assert f"CLUSTER_{knob}={value}" in refused.stderr


def test_up_refuses_what_is_up_and_ports_that_are_taken(cluster: Cluster, own_cluster: OwnCluster) -> None:
    again = cluster.tried(COMMANDS / "up")
    assert again.returncode == 2
    assert "is up" in again.stderr
    taken = own_cluster(ports=os.environ["SLURM_TESTS_PORTS"]).tried(COMMANDS / "up")
    assert taken.returncode == 2
    assert "is taken" in taken.stderr


def test_nodes_break_on_command(own_cluster: OwnCluster) -> None:
    cluster = own_cluster()
    cluster.command("up")
    job = cluster.submit("srun sleep 300", "--nodes=2")

    def sleeps_on(process: int, node: int) -> bool:
        folder = Path(f"/proc/{process}")
        try:
            named = (folder / "comm").read_text() == "sleep\n"
            return named and f"SLURMD_NODENAME=a100-{node}".encode() in (folder / "environ").read_bytes()
        except OSError:  # it has just ended
            return False

    def tasks_on(node: int) -> int:
        return sum(sleeps_on(process, node) for process in cluster.processes())

    cluster.wait_for(lambda: tasks_on(1) == tasks_on(2) == 1)
    cluster.node("kill", 2)
    assert tasks_on(2) == 1
    cluster.node("start", 2)
    cluster.node("crash", 2)
    cluster.wait_for(lambda: tasks_on(2) == 0)
    assert tasks_on(1) == 1
    assert "is not up" in cluster.tried(COMMANDS / "node", "pid", 2).stderr
    cluster.run("scancel", job)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_ordinary_user_has_a_cluster_too(own_cluster: OwnCluster) -> None:
    cluster = own_cluster(nodes=1)
    shutil.chown(cluster.root, "nobody", "nogroup")
    as_nobody = {"user": "nobody", "group": "nogroup", "extra_groups": [], "env": cluster.env, "cwd": "/"}
    subprocess.run([COMMANDS / "up"], check=True, **as_nobody)
    name = subprocess.run(["srun", "id", "-un"], check=True, capture_output=True, text=True, **as_nobody)
    assert name.stdout == "nobody\n"
    subprocess.run([COMMANDS / "down"], check=True, **as_nobody)
    assert cluster.processes() == set()
