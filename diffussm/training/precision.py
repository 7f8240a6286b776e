"""The precision of a training step: of its products, and of what is kept between them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from diffussm.config import TrainingConfig


@contextmanager
def products(config: TrainingConfig) -> Iterator[None]:
    """Let float32 products on GPUs round their inputs to TF32 if the config says so, and be exact otherwise."""
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "tf32" if config.precision == "tf32" else "ieee"
    try:
        yield
    finally:
        matmul.fp32_precision = before


def autocast(config: TrainingConfig, device: torch.device) -> torch.autocast:
    """Return the context of a forward pass: autocast to bfloat16 if the config says so."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bf16")
