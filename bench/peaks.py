"""The roofline of this machine, measured in the session that is compared with it."""

import math
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from diffussm import timing

SIDES = (512, 1024, 2048)  # of square matrices
MIB = 2**20
COPIES = tuple(size * MIB for size in (1, 2, 4, 8, 16, 64, 256))  # bytes of what is copied
ROUNDS = 8
TOLERANCE = 1.1  # a rate above this multiple of the peak is impossible


class Impossible(AssertionError):
    """A rate exceeds what this machine can reach, so the count or the clock is wrong."""


class Roofline(NamedTuple):
    """The larger bound of a call, and the share of it that the call reached."""

    bound: str  # matmul | copy
    share: float


class Peaks:
    """Multiply-adds per second of float32 matrix products, and bytes per second that copies read and write.

    Data that fits into a cache is copied faster, so a call is bounded by copies of at least as many bytes.
    """

    def __init__(self, device: str):
        self.device = device
        self.macs_per_second = 0.0
        self.copies = dict.fromkeys((2 * size for size in COPIES), 0.0)  # bytes transferred -> bytes per second
        self.measure()

    def measure(self) -> None:
        """Measure the peaks and keep the maxima; repeated because the machine may have been slow before."""
        for side in SIDES:
            a, b = (torch.randn(side, side, device=self.device) for _ in range(2))
            self.macs_per_second = max(self.macs_per_second, side**3 / _fastest(_product(a, b)))
        for bytes_moved in self.copies:
            source = torch.zeros(bytes_moved // 2, dtype=torch.uint8, device=self.device)
            rate = bytes_moved / _fastest(_copy(source))
            self.copies[bytes_moved] = max(self.copies[bytes_moved], rate)

    def bytes_per_second(self, bytes_moved: float = math.inf) -> float:
        """Return the rate of copies that move at least `bytes_moved` bytes, or of the largest copies if none does."""
        largest = max(self.copies)
        return max(rate for size, rate in self.copies.items() if size >= min(bytes_moved, largest))

    def bounds(self, macs: int | None, bytes_moved: int | None) -> dict[str, float]:
        """Return lower bounds on the seconds of a call."""
        bounds = {} if macs is None else {"matmul": macs / self.macs_per_second}
        return bounds if bytes_moved is None else {**bounds, "copy": bytes_moved / self.bytes_per_second(bytes_moved)}

    def roofline(self, seconds: list[float], macs: int | None, bytes_moved: int | None) -> Roofline | None:
        """Return the larger bound; None if neither cost is known. Raises Impossible above 1.1 times the peak."""
        median = statistics.median(seconds)
        for attempt in ("first", "with the peak measured again"):
            bounds = self.bounds(macs, bytes_moved)
            if not bounds:
                return None
            bound = max(bounds, key=bounds.__getitem__)
            if bounds[bound] <= TOLERANCE * median:
                return Roofline(bound, bounds[bound] / median)
            if attempt == "first":
                self.measure()
        raise Impossible(f"{bounds[bound] / median:.2f} times the {bound} peak of this machine: wrong count or clock")

    def as_dict(self) -> dict[str, Any]:
        """Return the peaks as they are stored."""
        return {
            "matmul": {"macs_per_second": self.macs_per_second},
            "copy": {
                "bytes_per_second": self.bytes_per_second(),
                "by_bytes": [list(row) for row in self.copies.items()],
            },
        }


def _fastest(call: Callable[[], Any]) -> float:
    return min(timing.time_interleaved({"call": call}, ROUNDS)["call"])


def _product(a: torch.Tensor, b: torch.Tensor) -> Callable[[], Any]:
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out)


def _copy(source: torch.Tensor) -> Callable[[], Any]:
    out = torch.empty_like(source)
    return lambda: out.copy_(source)
