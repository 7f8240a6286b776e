"""The rank of a process, read from the variables that torchrun and srun set."""

import subprocess
import sys

import pytest

from diffussm.distributed.launch_environment import (
    FIRST_PORT,
    PORT_CANDIDATES,
    PORT_RANGE,
    LaunchInfo,
    hosts,
    local_rank,
    read_launch_info,
)
from diffussm.errors import UserError
from tests.support.evaluating import ROOT

BATCH_SHELL = {"SLURM_JOB_ID": "71", "SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
STEP = BATCH_SHELL | {
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NODELIST": "a100-[03-04],b2",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
}
TORCHRUN = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "here", "MASTER_PORT": "29500"}


@pytest.mark.parametrize("environment", [{}, BATCH_SHELL, STEP | {"SLURM_STEP_NUM_TASKS": "1"}, {"WORLD_SIZE": "1"}])
def test_alone(environment: dict[str, str]) -> None:
    assert read_launch_info(environment) is None


def test_a_task_of_a_step() -> None:
    launch = read_launch_info(STEP)
    assert launch is not None
    assert (launch.rank, launch.world_size, launch.address) == (5, 8, "a100-03")
    assert len(set(launch.ports)) == PORT_CANDIDATES
    assert all(FIRST_PORT <= port < FIRST_PORT + PORT_RANGE for port in launch.ports)
    assert local_rank(STEP) == 1
    found = read_launch_info(STEP | {"MASTER_ADDR": "b9", "MASTER_PORT": "7"})
    assert found == LaunchInfo(5, 8, "b9", (7,), launch.step_id)


def test_all_tasks_of_a_step_meet_where_no_other_step_does() -> None:
    def meet(**changes: str) -> tuple[object, ...]:
        launch = read_launch_info(STEP | changes)
        assert launch is not None
        return launch.address, launch.ports, launch.step_id

    assert meet(SLURM_PROCID="7", SLURM_LOCALID="0", SLURM_RESTART_COUNT="0") == meet()
    names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT", "SLURM_CLUSTER_NAME", "SLURM_STEP_LAUNCHER_PORT")
    assert len({meet(), *(meet(**{name: "9"}) for name in names)}) == 6


def test_torchrun_inside_a_step() -> None:
    assert read_launch_info(STEP | TORCHRUN) == LaunchInfo(1, 2, "here", (29500,))
    assert read_launch_info(STEP | {"WORLD_SIZE": "1"}) is None
    assert local_rank(STEP | TORCHRUN) == 0


def test_half_of_what_torchrun_sets() -> None:
    with pytest.raises(UserError, match="WORLD_SIZE = 2: RANK, MASTER_ADDR must be set too"):
        read_launch_info({"WORLD_SIZE": "2", "MASTER_PORT": "1"})


@pytest.mark.parametrize(
    ("nodelist", "expected"),
    [
        ("node7", ["node7"]),
        ("node7,login-2", ["node7", "login-2"]),
        ("a100-[1-3,7],b2", ["a100-1", "a100-2", "a100-3", "a100-7", "b2"]),
        ("n[08-11]", ["n08", "n09", "n10", "n11"]),
        ("n[098-101,2]-ib", ["n098-ib", "n099-ib", "n100-ib", "n101-ib", "n2-ib"]),
        ("r[1-2]n[01-02],x[5]", ["r1n01", "r1n02", "r2n01", "r2n02", "x5"]),
    ],
)
def test_hosts(nodelist: str, expected: list[str]) -> None:
    assert hosts(nodelist) == expected


def test_alone_needs_no_torch() -> None:
    code = """
import sys
from diffussm.distributed.group import init_from_environment
with init_from_environment():
    assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
