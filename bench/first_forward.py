"""Seconds of S4D's first forward pass in each of several new processes, one per line: `python -m bench.first_forward`.

The result of the first process is compared with another backend. The processes are forked before torch has computed
anything, so that the time of imports is not included.
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
    """Return the seconds of the first forward pass; with `check`, compare its result with that of another backend."""
    layer, other = (S4D(WIDTH, STATE, bidirectional=True, backend=name) for name in (backend, "fft"))
    for module in (layer, other):
        initialise(module, seed=0)
    outputs: list[Tensor] = []
    u = noise(BATCH, LENGTH, WIDTH, device="cpu")
    with torch.no_grad():
        seconds = timing.seconds_of(lambda: outputs.append(layer(u)))
        if check:
            torch.testing.assert_close(outputs[0], other(u), atol=1e-4, rtol=1e-4)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="Time S4D's first forward pass in new processes.")
    parser.add_argument("--backend", choices=sorted(BACKENDS), required=True)
    parser.add_argument("--processes", type=int, default=timing.MIN_ROUNDS)
    options = parser.parse_args()
    for number in range(options.processes):
        if child := os.fork():
            _, status = os.waitpid(child, 0)
            if status:
                raise SystemExit(f"a process failed with status {status}")
        else:
            print(first_forward(options.backend, check=number == 0), flush=True)
            os._exit(0)


if __name__ == "__main__":
    main()
