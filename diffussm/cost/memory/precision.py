"""Bytes of the numbers of which a forward pass keeps some for the backward pass, by precision and device."""

from typing import NamedTuple

FLOAT32, BFLOAT16, COMPLEX64, COMPLEX128, INT64 = 4, 2, 8, 16, 8


class Bytes(NamedTuple):
    """Bytes of a number: the residual stream, layer norms and the loss are in float32 in any precision. So is S4D, but
    for what `chunked` keeps on GPUs."""

    dense: int  # of dense layers and attention
    modulation: int  # of products with scale and alpha, which autocast widens to float32 on GPUs and not on CPUs
    alphas: int  # of alpha; 0: it stays part of its layer's whole output, which is kept
    batched: bool = (
        False  # whether `chunked` computes all channels at once, as on GPUs, and keeps numbers as dense layers do
    )

    @property
    def autocast(self) -> bool:
        """Whether dense layers compute in bfloat16 with copies of inputs and weights."""
        return self.dense != FLOAT32


def bytes_of(precision: str, device: str) -> Bytes:
    """Return the sizes in a precision of the config on `cuda` or `cpu`."""
    on_gpu = device == "cuda"
    if precision != "bf16":
        return Bytes(FLOAT32, FLOAT32, 0, on_gpu)
    return Bytes(BFLOAT16, FLOAT32, FLOAT32, on_gpu) if on_gpu else Bytes(BFLOAT16, BFLOAT16, 0)
