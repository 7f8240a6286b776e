"""The functions that are pickled into jobs: they hold paths of run folders only. Slow imports happen on the node, after
the signal handlers are set, so that a launcher does not need them."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.slurm.commands import query
from ablations.slurm.node.interruption import Interruption
from diffussm.host.machine import usable_cores
from diffussm.store.writing import to_json, write_atomically


@dataclass(frozen=True)
class Training:
    """Trains one run to the longest of its requests, on all tasks of the job together. Another job evaluates it."""

    run: str

    def __call__(self) -> None:
        interruption = Interruption()
        from ablations.slurm.node.training import train

        train(Path(self.run), interruption)


@dataclass(frozen=True)
class Evaluations:
    """Evaluates milestones of the runs as they appear, until no more are to come; each on all tasks of the job
    together."""

    runs: str
    ids: tuple[str, ...]

    def __call__(self) -> None:
        interruption = Interruption()
        from ablations.slurm.node.evaluation import evaluate

        evaluate(Path(self.runs), self.ids, interruption)


@dataclass(frozen=True)
class Probe:
    """Examines a node, and writes its findings to the file `answer`."""

    answer: str

    def __call__(self) -> None:
        import torch

        found: dict[str, Any] = {
            "host": platform.node(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "cores": usable_cores(),
            "gpus": torch.cuda.device_count(),
            "visible_gpus": len([gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]),
            "can_query_slurm": query("squeue", "--noheader", "--job", os.environ["SLURM_JOB_ID"]) is not None,
        }
        write_atomically(Path(self.answer), to_json(found))
