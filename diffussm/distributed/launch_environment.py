"""Which of how many processes this one is, told from the environment: torchrun's, or that of an srun step. No torch."""

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from diffussm.errors import UserError

FIRST_PORT, PORTS = 15_000, 17_000  # all below those that Linux gives to outgoing connections
TRIES = 8  # ports of a step, should other programs have some of them
# What is the same for all tasks of a step and differs between steps, also of clusters that share a host, and for a job
# that was requeued.
STEP = (
    "SLURM_CLUSTER_NAME",
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
    "SLURM_RESTART_COUNT",
    "SLURM_LAUNCH_NODE_IPADDR",
    "SLURM_STEP_LAUNCHER_PORT",
)


@dataclass(frozen=True)
class Placement:
    """Process `rank` of `count`, which meet on the first one's host, at the first of `ports` that is free there.

    `step` names the srun step; it is empty for processes of torchrun, which has a port of its own.
    """

    rank: int
    count: int
    address: str
    ports: tuple[int, ...]
    step: str = ""


def placement(environment: Mapping[str, str]) -> Placement | None:
    """Where this process has its place among several; None if it is alone.

    What torchrun says holds inside an srun step too. The shell of a batch job is no step: it is alone, however many
    tasks the job may start.
    """
    count = int(environment.get("WORLD_SIZE") or environment.get("SLURM_STEP_NUM_TASKS") or 1)
    if count == 1:
        return None
    if "WORLD_SIZE" in environment:
        needed = ("RANK", "MASTER_ADDR", "MASTER_PORT")
        if missing := [name for name in needed if name not in environment]:
            raise UserError(f"WORLD_SIZE = {count}: {', '.join(missing)} must be set too, as torchrun does")
        rank, address, port = (environment[name] for name in needed)
        return Placement(int(rank), count, address, (int(port),))
    step = "/".join(environment.get(name, "0") for name in STEP)
    told = environment.get("MASTER_PORT")
    return Placement(
        int(environment["SLURM_PROCID"]),
        count,
        environment.get("MASTER_ADDR") or hosts(environment["SLURM_STEP_NODELIST"])[0],
        (int(told),) if told else ports_of(step),
        step,
    )


def ports_of(step: str) -> tuple[int, ...]:
    """Ports that are the same for all tasks of a step and, likely, others for other steps."""
    return tuple(FIRST_PORT + zlib.crc32(f"{step}/{k}".encode()) % PORTS for k in range(TRIES))


def local_rank(environment: Mapping[str, str]) -> int:
    """Among the processes of this host."""
    return int(environment.get("LOCAL_RANK") or environment.get("SLURM_LOCALID") or 0)


def neighbours(environment: Mapping[str, str]) -> int:
    """How many share this host's cores, this one among them; srun gives each task cores of its own."""
    return int(environment.get("LOCAL_WORLD_SIZE") or 1)


def hosts(nodelist: str) -> list[str]:
    """The hosts of a list as SLURM writes it: `a[1-3,07],b2` is a1, a2, a3, a07, b2."""
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
