"""What a step of training takes on a CPU beside the network: `python -m bench.host_work [CASE ...]`.

The loop itself trains a run, with its log, its state on disk and its looks at who owns the run, but no checkpoints.
Host work is all but the forward pass (with the noise that is added to images, and the loss), the backward pass, the
optimiser and the moving average.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffussm.config import Config, DataConfig, Request, resolve
from diffussm.data.catalogue import DataFacts
from diffussm.data.images import Examples
from diffussm.rng import Stream, normal
from diffussm.run.attempt import Attempt
from diffussm.store.rundir import RunDir
from diffussm.training.loop import LOG_EVERY, train
from diffussm.training.trainer import Trainer

PARTS = ("forward", "backward", "optimiser", "moving average", "host work")
STEP = "step"
LATENTS: dict[str, Any] = {
    "data.name": "bench.host_work:RandomLatents",
    "data.transform": "",
    "data.decoded_size": 0,
    "data.flip": False,
    "training.precision": "float32",
}
CASES: dict[str, tuple[str, dict[str, Any], int]] = {  # base, changes of its config, steps
    "digits": ("digits", {}, 400),
    "DiT-S/2": (
        "imagenet256",
        {**LATENTS, "model.kind": "dit", "model.patch": 2, "size": "S", "training.batch": 4},
        20,
    ),
    "DiT-XL/2": ("imagenet256", {**LATENTS, "model.kind": "dit", "model.patch": 2, "training.batch": 1}, 2),
}


class RandomLatents:
    """Latents of normal noise, made as they are wanted."""

    def __init__(self, data: DataConfig):
        pass

    @staticmethod
    def facts(_: DataConfig) -> DataFacts:
        return DataFacts(images=1_281_167, image_size=32, channels=4, classes=1000, transform="")

    def batch(self, seed: int, step: int, size: int, start: int = 0, count: int | None = None) -> Examples:
        count = size - start if count is None else count
        return Examples(normal(seed, Stream.CROP, step, start, count, (4, 32, 32)), np.zeros(count, dtype=np.int64))


class Enough(Exception):
    """All steps are made: no checkpoint follows."""


class Watch:
    """The seconds that a trainer's parts have taken after each step."""

    def __init__(self, trainer: Trainer, steps: int):
        self._after: list[Mapping[str, float]] = []
        self._seconds = dict.fromkeys(PARTS, 0.0)
        optimiser, step = trainer.state.optimiser, trainer.step
        for owner, name, part in (
            (trainer.network, "forward", "forward"),
            (trainer.diffusion, "add_noise", "forward"),
            (trainer.diffusion, "losses", "forward"),
            (Tensor, "backward", "backward"),
            (optimiser, "zero_grad", "optimiser"),
            (optimiser, "clip_gradients", "optimiser"),
            (optimiser, "step", "optimiser"),
            (trainer.state.ema, "update", "moving average"),
        ):
            setattr(owner, name, self._timed(getattr(owner, name), part))

        def watched() -> Any:
            if len(self._after) == steps:
                raise Enough
            losses = step()
            self._after.append({**self._seconds, STEP: time.perf_counter()})
            return losses

        trainer.step = watched  # type: ignore[method-assign]

    def windows(self) -> list[dict[str, float]]:
        """Return the mean seconds of each part of a step over windows of ten steps, or over all, but for the first."""
        length = min(LOG_EVERY, len(self._after) - 1)
        return [self._between(first, first + length) for first in range(0, len(self._after) - length, length)]

    def _between(self, first: int, last: int) -> dict[str, float]:
        before, after = self._after[first], self._after[last]
        seconds = {name: (after[name] - before[name]) / (last - first) for name in (STEP, *PARTS[:-1])}
        return {**seconds, PARTS[-1]: seconds[STEP] - sum(seconds[part] for part in PARTS[:-1])}

    def _timed(self, usual: Callable[..., Any], part: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            try:
                return usual(*args, **kwargs)
            finally:
                self._seconds[part] += time.perf_counter() - begin

        return call


def measure(config: Config, steps: int) -> list[dict[str, float]]:
    """Return the seconds of each part of a step, by windows of steps, in a run of the config."""
    backward, end = Tensor.backward, steps + 1
    try:
        with tempfile.TemporaryDirectory() as runs:
            run = RunDir.create(Path(runs), config)
            run.add_requests([Request.from_config(config)])
            trainer = Trainer(config, config.training.backend)
            watch = Watch(trainer, steps)
            attempt = Attempt(run, run.claim() or 0, lambda: run.cancelled)

            def report(step: int, loss: float, seconds: float) -> None:
                attempt.report(phase="train", step=step, steps=steps, loss=loss, seconds_per_step=seconds)

            try:
                with attempt:
                    train(run, trainer, attempt.number, {end: ("ema",)}, float("inf"), report, attempt.stop)
            except Enough:
                trainer.close()
    finally:
        Tensor.backward = backward  # type: ignore[method-assign]
    return watch.windows()


def table(name: str, windows: list[dict[str, float]]) -> str:
    """Return the medians over the windows: seconds of the parts and their shares of the step."""
    step = statistics.median(window[STEP] for window in windows)
    lines = [f"{name}: {1e3 * step:.2f} ms a step"]
    for part in PARTS:
        seconds = statistics.median(window[part] for window in windows)
        share = statistics.median(window[part] / window[STEP] for window in windows)
        lines.append(f"  {part:14} {1e3 * seconds:9.2f} ms {share:7.2%}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the parts of a training step on a CPU.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)} (default: all)")
    parser.add_argument("--steps", type=int, help="steps after the first (default: half a minute's)")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if unknown := [name for name in options.cases if name not in CASES]:
        parser.error(f"no case {unknown[0]!r}; there are {', '.join(CASES)}")
    torch.set_num_threads(options.threads)
    for name in options.cases or CASES:
        base, changes, steps = CASES[name]
        print(table(name, measure(resolve(base, changes), 1 + (options.steps or steps))), flush=True)


if __name__ == "__main__":
    main()
