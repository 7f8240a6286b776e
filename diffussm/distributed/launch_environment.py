"""The rank and world size of this process, read from the environment of torchrun or of an srun step. No torch."""

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from diffussm.errors import UserError

FIRST_PORT, PORT_RANGE = 15_000, 17_000  # all below Linux's range of ephemeral ports
PORT_CANDIDATES = 8  # ports of a step that are tried in turn; other programs may use some
# Together they are the same for all tasks of a step and different for any two steps, even if clusters share a host or a
# job was requeued.
STEP_VARIABLES = (
    "SLURM_CLUSTER_NAME",
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
    "SLURM_RESTART_COUNT",
    "SLURM_LAUNCH_NODE_IPADDR",
    "SLURM_STEP_LAUNCHER_PORT",
)


@dataclass(frozen=True)
class LaunchInfo:
    """How process `rank` of `world_size` was launched. The processes connect to `address`, rank zero's host, at the
    first free one of `ports`.

    `step_id` names the srun step; it is empty for processes of torchrun, which has a port of its own.
    """

    rank: int
    world_size: int
    address: str
    ports: tuple[int, ...]
    step_id: str = ""


def read_launch_info(environment: Mapping[str, str]) -> LaunchInfo | None:
    """Return how this process was launched as one of several; None if it is the only one.

    The variables of torchrun take precedence inside an srun step. The shell of a batch job is no step: it is
    a single process, however many tasks the job may start.
    """
    world_size = int(environment.get("WORLD_SIZE") or environment.get("SLURM_STEP_NUM_TASKS") or 1)
    if world_size == 1:
        return None
    if "WORLD_SIZE" in environment:
        needed = ("RANK", "MASTER_ADDR", "MASTER_PORT")
        if missing := [name for name in needed if name not in environment]:
            raise UserError(f"WORLD_SIZE = {world_size}: {', '.join(missing)} must be set too, as torchrun does")
        rank, address, port = (environment[name] for name in needed)
        return LaunchInfo(int(rank), world_size, address, (int(port),))
    step = "/".join(environment.get(name, "0") for name in STEP_VARIABLES)
    given_port = environment.get("MASTER_PORT")
    return LaunchInfo(
        int(environment["SLURM_PROCID"]),
        world_size,
        environment.get("MASTER_ADDR") or hosts(environment["SLURM_STEP_NODELIST"])[0],
        (int(given_port),) if given_port else ports_of(step),
        step,
    )


def ports_of(step: str) -> tuple[int, ...]:
    """Return ports that are the same for all tasks of a step and most likely differ between steps."""
    return tuple(FIRST_PORT + zlib.crc32(f"{step}/{k}".encode()) % PORT_RANGE for k in range(PORT_CANDIDATES))


def local_rank(environment: Mapping[str, str]) -> int:
    """Return the rank of this process among those of its host."""
    return int(environment.get("LOCAL_RANK") or environment.get("SLURM_LOCALID") or 0)


def local_world_size(environment: Mapping[str, str]) -> int:
    """Return how many processes share this host's cores: one under srun, which gives each task its own."""
    return int(environment.get("LOCAL_WORLD_SIZE") or 1)


def hosts(nodelist: str) -> list[str]:
    """Return the hosts of a list as SLURM writes it: `a[1-3,07],b2` is a1, a2, a3, a07, b2."""
    return [host for pattern in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", nodelist) for host in _expanded(pattern)]


def _expanded(pattern: str) -> list[str]:
    before, bracket, rest = pattern.partition("[")
    if not bracket:
        return [pattern]
    numbers, _, after = rest.partition("]")
    return [before + number + end for number in _numbers(numbers) for end in _expanded(after)]


def _numbers(ranges: str) -> list[str]:
    out = []
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        out += [str(number).zfill(len(first)) for number in range(int(first), int(last or first) + 1)]
    return out
