"""What the machine decides for a run at its first start, and what it used from then on."""

from typing import Any

import torch

from diffussm.config import Config
from diffussm.machine import keep_freed_memory, usable_cores
from diffussm.rundir import RunDir
from diffussm.ssm.choice import choose_backend


def settle(run: RunDir, config: Config, threads: int = 0) -> dict[str, Any]:
    """Backend, threads and device of the run, set for this process; `threads` where its config leaves them open."""
    training = config.training
    machine = run.machine(
        {
            "backend": choose_backend(training.backend),
            "threads": training.threads or threads or usable_cores(),
            "device": "cuda" if torch.cuda.is_available() else "cpu",
        }
    )
    keep_freed_memory()
    torch.set_num_threads(machine["threads"])
    return machine
