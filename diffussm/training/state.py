"""The state of a training and its checkpoints, which are written atomically and loaded with weights_only."""

import io
from typing import Any

import torch
from safetensors.torch import load, save
from torch import nn

from diffussm.config import TrainingConfig
from diffussm.distributed.group import SINGLE_PROCESS, ProcessGroup
from diffussm.models.build import parameter_groups
from diffussm.models.weights import load_weights, same_weights
from diffussm.store.rundir import RunDir
from diffussm.store.writing import write_atomically
from diffussm.training.adamw import AdamW
from diffussm.training.ema import EMA

KEPT_CHECKPOINTS = 2  # the newest, and one to return to by hand


class ReplayMismatch(Exception):
    """A replay reproduced other weights than the training."""


class TrainingState:
    """Model, optimiser, moving average and the number of steps done. Randomness has no state: see `rng`."""

    def __init__(self, model: nn.Module, config: TrainingConfig):
        groups = parameter_groups(model, config.lr, config.ssm_lr_scale, config.weight_decay)
        self.model = model
        self.optimiser = AdamW(groups)
        self.ema = EMA(model, config.ema)
        self.step = 0

    def save(self, run: RunDir, attempt: int) -> None:
        """Write a checkpoint and delete those older than the last two."""
        buffer = io.BytesIO()
        torch.save(
            {
                "step": self.step,
                "model": self.model.state_dict(),
                "ema": self.ema.state_dict(),
                "optimiser": self.optimiser.state_dict(),
            },
            buffer,
        )
        write_atomically(run.checkpoint(self.step, attempt), buffer.getvalue())
        for old in run.checkpoints()[KEPT_CHECKPOINTS:]:
            old.unlink(missing_ok=True)

    def load_newest(self, run: RunDir, processes: ProcessGroup = SINGLE_PROCESS) -> None:
        """Load the newest checkpoint that rank zero sees; without one, stay at step 0."""
        for path in processes.on_rank_zero(lambda: run.checkpoints()[:1]):
            content: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
            self.step = content["step"]
            load_weights(self.model, content["model"], str(path))
            self.ema.load_state_dict(content["ema"])
            self.optimiser.load_state_dict(content["optimiser"])

    def save_weights(self, run: RunDir, kind: str) -> None:
        """Keep the weights (ema | raw) of this step as a milestone; a replay compares them with those kept already.

        Raises ReplayMismatch if they differ.
        """
        weights = self.model.state_dict()  # buffers too
        if kind == "ema":
            weights = weights | self.ema.state_dict()
        path = run.weights(self.step, kind)
        if run.mode == "train" or not path.exists():
            write_atomically(path, save({name: value.clone() for name, value in weights.items()}))
        elif not same_weights(load(path.read_bytes()), weights):
            raise ReplayMismatch(f"{kind} weights of step {self.step} are not those kept: another machine or code")
