"""What the machine decides for a run at its first start, and what it used from then on."""

import os
from typing import Any

import torch

from diffussm.config import Config
from diffussm.machine import keep_freed_memory, usable_cores
from diffussm.placement import neighbours
from diffussm.rundir import RunDir
from diffussm.ssm.choice import choose_backend


def settle(run: RunDir, config: Config, threads: int = 0, processes: int = 1) -> dict[str, Any]:
    """Backend, threads, device and the batch's shares of the run, set for this process, which is one of `processes`;
    `threads` where its config leaves them open."""
    training = config.training
    machine = {"shares": 1} | run.machine(
        {
            "backend": choose_backend(training.backend),
            "threads": training.threads or threads or max(1, usable_cores() // neighbours(os.environ)),
            "device": "cuda" if torch.cuda.is_available() else "cpu",
            "shares": processes,
        }
    )
    keep_freed_memory()
    torch.set_num_threads(machine["threads"])
    return machine
