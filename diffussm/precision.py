"""The precision in which a network computes: that of its products, and of what is kept between them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def matrix_products(tf32: bool) -> Iterator[None]:
    """Let float32 matrix products on GPUs round their inputs to TF32, or else be exact."""
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "tf32" if tf32 else "ieee"
    try:
        yield
    finally:
        matmul.fp32_precision = before


@contextmanager
def products(tf32: bool) -> Iterator[None]:
    """Let float32 matrix products and convolutions on GPUs round their inputs to TF32, or else be exact."""
    cudnn = torch.backends.cudnn
    with matrix_products(tf32), cudnn.flags(enabled=True, deterministic=cudnn.deterministic, allow_tf32=tf32):
        yield


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the context of a forward pass: autocast to bfloat16 if `precision` is bf16."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
