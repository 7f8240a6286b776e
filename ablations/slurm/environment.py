"""The environment in which jobs are submitted: without what an allocation, or a launcher of processes, left there."""

import contextlib
import os
from collections.abc import Iterator, Mapping

KEPT = ("SLURM_CONF", "SLURM_CLUSTERS")  # which cluster is meant
PREFIXES = ("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_", "PMI_", "PMIX_", "PMI2_", "TORCHELASTIC_")
OF_LAUNCHERS = ("RANK", "LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
OF_GPUS = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL")  # SLURM sets them in the job


def allocation(environment: Mapping[str, str] = os.environ) -> str:
    """The job inside which this process runs; "" for none."""
    return environment.get("SLURM_JOB_ID", "")


def stray(environment: Mapping[str, str]) -> list[str]:
    """Variables that would mislead a job that inherits them."""
    return [
        name
        for name in environment
        if name not in KEPT and (name.startswith(PREFIXES) or name in OF_LAUNCHERS or name in OF_GPUS)
    ]


@contextlib.contextmanager
def scrubbed() -> Iterator[None]:
    """This process' environment without them, for as long as the context lasts."""
    taken = {name: os.environ.pop(name) for name in stray(os.environ)}
    try:
        yield
    finally:
        os.environ.update(taken)
