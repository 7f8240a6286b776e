"""Measure the backends on this machine, in interleaved rounds, for the table of `selection`."""

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from diffussm.host.machine import processor
from diffussm.ssm.s4d import BACKENDS, S4D
from diffussm.ssm.selection import BackendTiming, unavailable_reason
from diffussm.store.writing import write_atomically
from diffussm.timing import summarise, time_interleaved

WIDTHS, LENGTHS, TOKENS = (64, 384, 1152), (16, 64, 256, 1024, 4096), 4096
ROUNDS = 9
LARGEST_KERNEL = 400_000  # for larger D L the FFT backend's exponentials take gigabytes
CANDIDATES = tuple(name for name in BACKENDS if name != "reference")


def measure(device: str, on_progress: Callable[[str], None] = lambda _: None) -> Iterator[BackendTiming]:
    """Yield the times of forward and backward passes of bidirectional layers with N = 64 on about 4,096 tokens.

    `on_progress` is called with a line of text for each shape."""
    for width in WIDTHS:
        for length in LENGTHS:
            batch = max(1, TOKENS // length)
            passes = {
                backend: _passes(backend, width, length, batch, device)
                for backend in CANDIDATES
                if not unavailable_reason(backend, device) and (backend != "fft" or width * length <= LARGEST_KERNEL)
            }
            seconds = {name: summarise(found).median for name, found in time_interleaved(passes, ROUNDS).items()}
            on_progress(f"D = {width}, L = {length}: " + ", ".join(f"{k} {1e3 * s:.1f} ms" for k, s in seconds.items()))
            for backend, found in seconds.items():
                threads = torch.get_num_threads()
                yield BackendTiming(device, processor(), threads, width, length, batch, backend, round(found, 6))


def write(rows: list[BackendTiming], path: Path) -> None:
    """Write the rows as CSV."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(BackendTiming._fields)
    out.writerows(rows)
    write_atomically(path, text.getvalue().encode())


def _passes(backend: str, width: int, length: int, batch: int, device: str) -> Callable[[], None]:
    layer = S4D(width, 64, bidirectional=True, backend=backend).to(device)
    for name, parameter in layer.named_parameters():
        start = layer.initial_values(name, torch.rand(parameter.shape), torch.randn(parameter.shape))
        parameter.data.copy_(start)
    u = torch.randn(batch, length, width, device=device, requires_grad=True)
    dy = torch.randn(batch, length, 2 * width, device=device)
    return lambda: layer(u).backward(dy)
