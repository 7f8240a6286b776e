"""What the machine decides for a run at its first start, and what it used from then on."""

import os
import sys
from typing import Any

import torch

from diffussm.config import Config
from diffussm.distributed.launch_environment import local_world_size
from diffussm.host.machine import keep_freed_memory, usable_cores
from diffussm.ssm.choice import PORTABLE
from diffussm.ssm.selection import obstacle, select
from diffussm.store.rundir import RunDir


def settle(run: RunDir, config: Config, threads: int = 0, processes: int = 1, device: str = "") -> dict[str, Any]:
    """Backend, threads, device and the batch's shares of the run, set for this process, which is one of `processes`;
    `threads` where its config leaves them open, `device` where it is not to be that of the run.

    A backend that was asked for, or that the run started with, and that does not run here gives way to one that does.
    """
    training, model = config.training, config.model
    here = "cuda" if torch.cuda.is_available() else "cpu"
    machine = {"shares": 1} | run.machine(
        {
            "backend": select(training.backend, here, model.width, model.length),
            "threads": training.threads or threads or max(1, usable_cores() // local_world_size(os.environ)),
            "device": here,
            "shares": processes,
        }
    )
    machine["device"] = device.partition(":")[0] or machine["device"]
    for backend in (training.backend, machine["backend"]):
        if lacks := obstacle(backend, machine["device"]):
            machine["backend"] = PORTABLE
            print(f"{run.run_id}: S4D by {PORTABLE}, since {backend} does not run here: {lacks}", file=sys.stderr)
            break
    keep_freed_memory()
    torch.set_num_threads(machine["threads"])
    return machine
