"""The environment in which jobs are submitted: without the variables that an allocation or a process launcher has
set."""

import contextlib
import os
from collections.abc import Iterator, Mapping

KEPT = ("SLURM_CONF", "SLURM_CLUSTERS")  # they select the cluster
PREFIXES = ("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_", "PMI_", "PMIX_", "PMI2_", "TORCHELASTIC_")
LAUNCHER_VARIABLES = (
    "RANK",
    "LOCAL_RANK",
    "GROUP_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
)
GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL")  # SLURM sets them in the job


def allocation(environment: Mapping[str, str] = os.environ) -> str:
    """Return the id of the job that this process runs in; "" if there is none."""
    return environment.get("SLURM_JOB_ID", "")


def inherited(environment: Mapping[str, str]) -> list[str]:
    """Return the names of variables that would mislead a job that inherits them."""
    return [
        name
        for name in environment
        if name not in KEPT and (name.startswith(PREFIXES) or name in LAUNCHER_VARIABLES or name in GPU_VARIABLES)
    ]


@contextlib.contextmanager
def scrubbed() -> Iterator[None]:
    """Remove these variables from the environment of this process for as long as the context lasts."""
    removed = {name: os.environ.pop(name) for name in inherited(os.environ)}
    try:
        yield
    finally:
        os.environ.update(removed)
