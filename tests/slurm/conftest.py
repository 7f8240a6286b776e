"""Clusters for tests, all below the folder that `tests/slurm/run` makes; without it there are none."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, OwnCluster

PORTS_OF_A_CLUSTER = 50
SHARED, WITHOUT_ACCOUNTING, OWN = 0, 1, 2  # which of these fifties
OWN_OF_A_WORKER = 4


def pytest_pycollect_makemodule() -> None:
    """Skips the folder as one."""
    if "SLURM_TESTS" not in os.environ:
        pytest.skip("tests on a real SLURM, which make test-slurm brings up")


@pytest.fixture(scope="session")
def clusters() -> Path:
    folder = Path(os.environ["SLURM_TESTS"])
    os.environ["DIFFUSSM_CACHE"] = str(folder / "cache")  # of jobs too
    return folder


def ports(cluster: int) -> int:
    return int(os.environ["SLURM_TESTS_PORTS"]) + cluster * PORTS_OF_A_CLUSTER


@pytest.fixture(scope="session")
def cluster(clusters: Path) -> Cluster:
    """Four nodes of eight GPUs with accounting, for all tests: who breaks nodes takes an own one."""
    return Cluster(clusters / "shared")


@pytest.fixture(scope="session")
def cluster_without_accounting(clusters: Path) -> Cluster:
    """The same without sacct, for all tests; the first that asks brings it up."""
    found = Cluster(clusters / "plain", accounting="none", ports=ports(WITHOUT_ACCOUNTING))
    with (clusters / "plain.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.root.exists():
            found.command("up")
    return found


@pytest.fixture
def own_cluster(clusters: Path, worker_id: str) -> Iterator[OwnCluster]:
    """Called with knobs, a cluster of the test's own that is yet to be brought up; without accounting unless asked."""
    worker = int(worker_id.removeprefix("gw")) if worker_id.startswith("gw") else 0
    made: list[Cluster] = []

    def make(**knobs: str | int) -> Cluster:
        root = Path(tempfile.mkdtemp(prefix="own-", dir=clusters))
        free = ports(OWN + worker * OWN_OF_A_WORKER + len(made))
        defaults: dict[str, str | int] = {"nodes": 2, "accounting": "none", "ports": free}
        made.append(Cluster(root, **{**defaults, **knobs}))
        return made[-1]

    yield make
    for cluster in made:
        cluster.command("down")
