"""Calibration: measures on this machine how long a training step, a call of the sampler and an evaluation take, for
every model shape of a plan."""

import statistics
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch

from ablations.plan.calibration import Calibration, ShapeTiming, machine, path_of, shape_digest
from ablations.plan.plan import PlannedRun
from diffussm.config import Config
from diffussm.host.machine import keep_freed_memory
from diffussm.host.provenance import describe
from diffussm.metrics.key import evaluation_key
from diffussm.metrics.sampling import in_precision
from diffussm.metrics.suite import metric_suite
from diffussm.models.build import build_model
from diffussm.ssm.selection import select
from diffussm.timing import synchronised_time, time_interleaved
from diffussm.training.trainer import Trainer

ROUNDS = 7
LEAST_SECONDS = 1.0  # of all rounds together


def calibrate(planned: Iterable[PlannedRun], runs: Path, threads: int, on_measured: Callable[[str], None]) -> Path:
    """Measure each shape of the plan anew, write it to the calibration file of this machine, and return the file's
    path.

    `threads` is the number of threads of a run whose config does not set it. `on_measured` is called with a line of
    text for each shape.
    """
    stored = Calibration.load(runs)
    entries = dict(stored.entries)
    keep_freed_memory()
    shapes = {shape_digest(p.run.config, threads): p for p in planned}
    for number, (shape, p) in enumerate(shapes.items(), start=1):
        seconds = measure(p.run.config, threads)
        measured = ShapeTiming(macs_per_step=p.macs_per_step, macs_per_call=p.spec.macs.total, **seconds)
        entries[shape] = measured
        new = {"machine": machine(), "provenance": describe(), "entries": entries}
        stored.model_copy(update=new).save(runs)
        on_measured(
            f"{number} of {len(shapes)}: {p.run.arm.name}: {measured.seconds_per_step:.4f} s per step, "
            f"{1e3 * measured.seconds_per_image_and_call:.3f} ms per image and call, "
            f"{measured.evaluation_seconds:.2f} s per evaluation beyond sampling"
        )
    return path_of(runs)


def measure(config: Config, threads: int) -> dict[str, float]:
    """Return the median times in seconds, with the threads and the device that a run would have."""
    torch.set_num_threads(config.training.threads or threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    backend = select(config.training.backend, device, config.model.width, config.model.length)
    trainer = Trainer(config, backend, device)
    network = in_precision(build_model(config, backend).to(device).eval(), config.evaluation.precision)
    m, batch = config.model, min(config.evaluation.batch, config.evaluation.samples)
    x = torch.zeros(batch, m.channels, m.image_size, m.image_size, device=device)
    t, y = torch.zeros(batch, dtype=torch.long, device=device), torch.zeros(batch, dtype=torch.long, device=device)

    @torch.no_grad()
    def call() -> None:
        network(x, t, y)

    seconds = {}
    for name, function in (("step", trainer.step), ("call", call)):
        once = time_interleaved({name: function}, 1)[name][0]
        rounds = max(ROUNDS, min(200, round(LEAST_SECONDS / once)))
        seconds[name] = statistics.median(time_interleaved({name: function}, rounds, warmup=0)[name])
    trainer.close()
    return {
        "seconds_per_step": seconds["step"],
        "seconds_per_image_and_call": seconds["call"] / batch,
        "evaluation_seconds": _evaluation_seconds(config, device),
    }


def _evaluation_seconds(config: Config, device: str) -> float:
    """Return the time of an evaluation beyond sampling: features and metrics, here of noise images."""
    suite = metric_suite(config.evaluation, evaluation_key(config), device)
    m, n = config.model, config.evaluation.samples
    pixels = np.random.default_rng(0).integers(0, 256, (n, m.channels, m.image_size, m.image_size), dtype=np.uint8)
    began = synchronised_time()
    suite.measure_images(pixels, np.zeros(n, dtype=np.int64))
    return synchronised_time() - began
