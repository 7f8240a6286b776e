"""The precision in which a network computes: that of its products, and of what is kept between them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def products(tf32: bool) -> Iterator[None]:
    """Let float32 products and convolutions on GPUs round their inputs to TF32, or else be exact."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.fp32_precision
    matmul.fp32_precision = "tf32" if tf32 else "ieee"
    try:
        with cudnn.flags(enabled=True, deterministic=cudnn.deterministic, allow_tf32=tf32):
            yield
    finally:
        matmul.fp32_precision = before


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the context of a forward pass: autocast to bfloat16 if `precision` is bf16."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
