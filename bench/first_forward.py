"""Seconds of S4D's first forward pass in each of several new processes, one a line: `python -m bench.first_forward`.

The processes are forked before torch has computed anything, so that what is imported counts in none of them.
"""

import argparse
import os

import torch

from diffussm import timing
from diffussm.models.build import initialise
from diffussm.ssm.s4d import BACKENDS, S4D

WIDTH, STATE, LENGTH, BATCH = 64, 64, 64, 8


def first_forward(backend: str) -> float:
    layer = S4D(WIDTH, STATE, bidirectional=True, backend=backend)
    initialise(layer, seed=0)
    u = torch.zeros(BATCH, LENGTH, WIDTH)
    with torch.no_grad():
        return timing.seconds_of(lambda: layer(u))


def main() -> None:
    parser = argparse.ArgumentParser(description="How long S4D's first forward pass takes in a new process.")
    parser.add_argument("--backend", choices=sorted(BACKENDS), required=True)
    parser.add_argument("--processes", type=int, default=timing.FEWEST)
    options = parser.parse_args()
    for _ in range(options.processes):
        if child := os.fork():
            _, status = os.waitpid(child, 0)
            if status:
                raise SystemExit(f"a process ended with status {status}")
        else:
            print(first_forward(options.backend), flush=True)
            os._exit(0)


if __name__ == "__main__":
    main()
