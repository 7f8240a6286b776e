"""The state of a training and its checkpoints."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffussm.config import TrainingConfig
from diffussm.distributed.group import SINGLE_PROCESS, ProcessGroup
from diffussm.models.build import parameter_groups
from diffussm.models.stored import write_weights
from diffussm.models.trained import read_kept_weights
from diffussm.models.weights import load_weights, same_weights
from diffussm.store.integrity.stamp import DamagedFile, Stamp
from diffussm.store.rundir import RunDir
from diffussm.training.adamw import AdamW
from diffussm.training.checkpoints import files
from diffussm.training.checkpoints.staging import staged_bytes
from diffussm.training.ema import EMA

KEPT_CHECKPOINTS = 2  # the newest, and one to return to by hand


class ReplayMismatch(Exception):
    """A replay reproduced other weights than the training."""


class TrainingState:
    """Model, optimiser, moving average and the number of steps done. Randomness has no state: see `rng`.

    `before_update` is called before any of them changes.
    """

    def __init__(self, model: nn.Module, config: TrainingConfig):
        groups = parameter_groups(model, config.lr, config.ssm_lr_scale, config.weight_decay)
        self.model = model
        self.optimiser = AdamW(groups)
        self.ema = EMA(model, config.ema)
        self.device = next(model.parameters()).device
        self.step = 0
        self.before_update: Callable[[], None] = _nothing

    def content(self) -> dict[str, Any]:
        """Return what a checkpoint holds: the tensors themselves, but copies of the model's buffers, which a forward
        pass may change."""
        buffers = {name for name, _ in self.model.named_buffers(remove_duplicate=False)}
        model = {name: p.clone() if name in buffers else p for name, p in self.model.state_dict().items()}
        return {
            "step": self.step,
            "model": model,
            "ema": self.ema.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def most_bytes(self) -> int:
        """Return how much host memory a copy of the content takes, once all parameters have moments."""
        parameters = list(self.model.parameters())
        weights = staged_bytes([self.model.state_dict(), self.ema.state_dict()])
        return weights + 2 * staged_bytes(parameters) + len(parameters) * staged_bytes(torch.zeros(()))

    def save(self, run: RunDir, attempt: int, content: dict[str, Any] | None = None) -> None:
        """Write a checkpoint, of a `content` of before or of now, and delete those older than the last two."""
        content = content or self.content()
        files.write(run, content["step"], attempt, content)
        for old in run.checkpoints()[KEPT_CHECKPOINTS:]:
            old.unlink(missing_ok=True)

    def load_newest(self, run: RunDir, processes: ProcessGroup = SINGLE_PROCESS) -> None:
        """Load the newest checkpoint that rank zero finds intact; without one, stay at step 0.

        Damaged ones are set aside.
        """
        content: dict[str, Any] | None = None

        def choose() -> Path | None:
            nonlocal content
            path, content = files.newest_intact(run) or (None, None)
            return path

        path = processes.on_rank_zero(choose)
        if path is None:
            return
        if content is None:  # on the other ranks
            content = files.read(path, run.run_id)
        self.step = content["step"]
        load_weights(self.model, content["model"], str(path))
        self.ema.load_state_dict(content["ema"])
        self.optimiser.load_state_dict(content["optimiser"])

    def save_weights(self, run: RunDir, kind: str, content: dict[str, Any] | None = None) -> None:
        """Keep the weights (ema | raw) of a `content` of before or of now as a milestone; a replay compares them with
        those kept already.

        Raises ReplayMismatch if they differ.
        """
        content = content or self.content()
        step, weights = content["step"], files.weights_in(content, kind)
        kept = None if run.mode == "train" else _kept_weights(run, step, kind)
        if kept is None:
            write_weights(run.weights(step, kind), weights, Stamp(run_id=run.run_id, step=step, kind=kind))
        elif not same_weights(kept, weights):
            raise ReplayMismatch(f"{kind} weights of step {step} are not those kept: another machine or code")


def _kept_weights(run: RunDir, step: int, kind: str) -> dict[str, Tensor] | None:
    """Return the weights kept at `step`; None if there are none, or damaged ones, which are set aside."""
    try:
        return read_kept_weights(run, step, kind).tensors
    except FileNotFoundError:
        return None
    except DamagedFile as damage:
        print(damage, file=sys.stderr, flush=True)
        return None


def _nothing() -> None:
    """Let the state change at once."""
