"""The learning rate's schedule: a function of the step alone, so that a longer budget continues the same run."""

import math

from diffussm.config import TrainingConfig


def lr_factor(config: TrainingConfig, step: int) -> float:
    """Return by what the learning rate is multiplied in the update that follows `step` others.

    It rises linearly during `warmup` updates; from update `lr_decay_start` on it falls as the inverse square root
    (Karras et al. 2024, "Analyzing and improving the training dynamics of diffusion models", equation 67).
    """
    update = step + 1
    rising = min(1.0, update / config.warmup) if config.warmup else 1.0
    start = config.lr_decay_start
    return rising * (math.sqrt(start / update) if start and update > start else 1.0)
