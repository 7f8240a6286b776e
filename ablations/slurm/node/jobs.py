"""What a job is pickled as: paths of run folders, and nothing else. All that is heavy is imported on the node, after
signals are heard, so that a launcher imports none of it."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.slurm.commands import ask
from ablations.slurm.node.interruption import Interruption
from diffussm.host.machine import usable_cores
from diffussm.store.writing import to_json, write_whole


@dataclass(frozen=True)
class Training:
    """Trains one run as far as its requests ask, on all tasks of the job together. Its evaluations are another's."""

    run: str

    def __call__(self) -> None:
        interruption = Interruption()
        from ablations.slurm.node.training import train

        train(Path(self.run), interruption)


@dataclass(frozen=True)
class Evaluations:
    """Evaluates milestones of the runs as they land, until nothing more is to come. Each task of the job by itself."""

    runs: str
    ids: tuple[str, ...]

    def __call__(self) -> None:
        interruption = Interruption()
        from ablations.slurm.node.evaluator import Evaluator

        Evaluator(Path(self.runs), self.ids, interruption).work()


@dataclass(frozen=True)
class Probe:
    """Looks around on a node, and writes what it finds to the file `answer`."""

    answer: str

    def __call__(self) -> None:
        import torch

        found: dict[str, Any] = {
            "host": platform.node(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "cores": usable_cores(),
            "gpus": torch.cuda.device_count(),
            "given": len([gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]),
            "asks": ask("squeue", "--noheader", "--job", os.environ["SLURM_JOB_ID"]) is not None,
        }
        write_whole(Path(self.answer), to_json(found))
