"""Scales of the benchmarks: `small` for two cores in minutes, `paper` for the paper's shapes, `tiny` for tests."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

HEADS = {32: 2, 64: 4, 384: 6, 1152: 16}  # by width


class Shape(NamedTuple):
    """The width D, length L and batch B of a benchmark."""

    width: int
    length: int
    batch: int

    @property
    def heads(self) -> int:
        return HEADS[self.width]

    @property
    def side(self) -> int:
        """Return the side of the square image with `length` tokens."""
        return math.isqrt(self.length)

    def __str__(self) -> str:
        return f"D = {self.width}, L = {self.length}, B = {self.batch}"


@dataclass(frozen=True)
class Scale:
    """Sizes and limits: the rounds of one benchmark take about `seconds`, and at most `max_seconds`."""

    name: str
    device: str
    mixer_width: int
    tokens: int  # B L for mixers, at any L
    size: str  # of whole networks, as in DiT-XL/2
    images: int  # per call of whole networks
    seconds: float
    max_seconds: float

    @property
    def tiny(self) -> bool:
        """Return whether benchmarks are only checked, not timed."""
        return self.name == "tiny"

    def shape(self, width: int, length: int, batch: int) -> Shape:
        """Return the shape of a block at this scale."""
        return Shape(32, max(4, length // 64), min(batch, 2)) if self.tiny else Shape(width, length, batch)

    def mixer(self, length: int) -> Shape:
        """Return the shape of a mixer at this scale."""
        return self.shape(self.mixer_width, length, max(1, self.tokens // length))

    def count(self, number: int) -> int:
        """Return the number of samples, features or images at this scale."""
        return max(16, number // 50) if self.tiny else number


def scale(name: str) -> Scale:
    """Return the scale `name`."""
    match name:
        case "tiny":
            return Scale(name, "cpu", 32, 64, "S", 2, 0, math.inf)
        case "small":
            return Scale(name, "cpu", 64, 16384, "S", 1, 0.3, 4)
        case "paper":
            return Scale(name, "cuda" if torch.cuda.is_available() else "cpu", 1152, 16384, "XL", 16, 5.0, 120)
    raise ValueError(f"unknown scale {name!r}")
