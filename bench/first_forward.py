"""Seconds of S4D's first forward pass in each of several new processes, one a line: `python -m bench.first_forward`.
What the first of them gives is held against another backend.

The processes are forked before torch has computed anything, so that what is imported counts in none of them.
"""

import argparse
import os

import torch
from torch import Tensor

from bench.layers import noise
from diffussm import timing
from diffussm.models.build import initialise
from diffussm.ssm.s4d import BACKENDS, S4D

WIDTH, STATE, LENGTH, BATCH = 64, 64, 64, 8


def first_forward(backend: str, check: bool) -> float:
    layer, other = (S4D(WIDTH, STATE, bidirectional=True, backend=name) for name in (backend, "fft"))
    for made in (layer, other):
        initialise(made, seed=0)
    found: list[Tensor] = []
    u = noise(BATCH, LENGTH, WIDTH, device="cpu")
    with torch.no_grad():
        seconds = timing.seconds_of(lambda: found.append(layer(u)))
        if check:
            torch.testing.assert_close(found[0], other(u), atol=1e-4, rtol=1e-4)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="How long S4D's first forward pass takes in a new process.")
    parser.add_argument("--backend", choices=sorted(BACKENDS), required=True)
    parser.add_argument("--processes", type=int, default=timing.FEWEST)
    options = parser.parse_args()
    for number in range(options.processes):
        if child := os.fork():
            _, status = os.waitpid(child, 0)
            if status:
                raise SystemExit(f"a process ended with status {status}")
        else:
            print(first_forward(options.backend, check=number == 0), flush=True)
            os._exit(0)


if __name__ == "__main__":
    main()
