"""How long runs will take, from what `--calibrate` measured on this machine, or else from a stated assumption."""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.plan import Planned
from diffussm.config import Config, digest
from diffussm.machine import gpus, processor, usable_cores
from diffussm.workdir import read_json

# MACs per second where nothing was measured; said beside every estimate that stands on it.
CORE_RATE = 10e9  # of one core in float32: what the digits base reaches on a server's
GPU_RATE = 55e12  # of one A100 in bf16: 35 % of its 156 T MACs/s


@dataclass(frozen=True)
class Estimate:
    """Seconds of what is left of a run's training, and of its evaluations; None where nothing tells."""

    training: float | None
    evaluation: float | None
    basis: str  # measured | by MACs | assumed | unknown

    @property
    def seconds(self) -> float | None:
        return None if self.training is None or self.evaluation is None else self.training + self.evaluation


class Estimates:
    """Times of planned runs on this machine, one run on one slot; `entries` are those of a calibration file, `threads`
    what a slot has for runs that leave their number to the machine."""

    def __init__(self, entries: dict[str, Any], threads: int):
        self.entries, self.threads = entries, threads
        self._has_gpu = bool(gpus())

    @classmethod
    def load(cls, path: Path, threads: int) -> "Estimates":
        return cls(read_json(path)["entries"] if path.exists() else {}, threads)

    def of(self, p: Planned) -> Estimate:
        """For what is left of the run: its training steps and its evaluations."""
        if p.done:
            return Estimate(0.0, 0.0, "measured")
        config, macs = p.run.config, p.arm.macs.total
        e = config.evaluation
        images = p.evaluations_left * e.samples * e.sampler_steps * (1 if e.guidance == 1 else 2)
        if self.entries and (entry := self.entries.get(shape_digest(config, self.threads))):
            sampling = images * entry["seconds_per_image_and_call"]
            fixed = p.evaluations_left * entry["evaluation_seconds"]
            return Estimate(p.steps_left * entry["seconds_per_step"], sampling + fixed, "measured")
        if macs is None or p.macs_per_step is None:
            return Estimate(None, None, "unknown")
        known = [entry for entry in self.entries.values() if entry["macs_per_call"]]
        if known:
            step = statistics.median(entry["seconds_per_step"] / entry["macs_per_step"] for entry in known)
            image = statistics.median(entry["seconds_per_image_and_call"] / entry["macs_per_call"] for entry in known)
            fixed = p.evaluations_left * statistics.median(entry["evaluation_seconds"] for entry in known)
            return Estimate(p.steps_left * step * p.macs_per_step, images * image * macs + fixed, "by MACs")
        rate = self._rate(config)
        return Estimate(p.steps_left * p.macs_per_step / rate, images * macs / rate, "assumed")

    def stand_on(self, estimated: Mapping[Planned, Estimate]) -> str:
        """On what the estimates of the runs stand: a sentence."""
        todo = [p for p in estimated if not p.done]
        bases = {estimated[p].basis for p in todo}
        if "assumed" in bases:
            rates = sorted({self._rate_words(p.run.config) for p in todo})
            return f"assumed: {', '.join(rates)}; nothing was measured here (--calibrate does)"
        if "by MACs" in bases:
            return "measured on this machine for other shapes, and scaled by MACs (--calibrate measures these)"
        if "unknown" in bases:
            return "measured on this machine; the MACs of some mixers are unknown"
        return "measured on this machine with one worker alone"

    def _rate(self, config: Config) -> float:
        return GPU_RATE if self._on_gpu(config) else CORE_RATE * (config.training.threads or self.threads)

    def _rate_words(self, config: Config) -> str:
        if self._on_gpu(config):
            return f"an A100 at {GPU_RATE / 1e12:.0f} T MACs/s"
        return f"{CORE_RATE / 1e9:.0f} G MACs/s a core"

    def _on_gpu(self, config: Config) -> bool:
        return self._has_gpu or config.training.precision == "bf16"


def schedule(runs: Iterable[tuple[float, int]], slots: int) -> float:
    """When the last of the runs (seconds, slots that it takes) ends, if the longest start first on `slots` slots."""
    free = [0.0] * slots
    for seconds, width in sorted(runs, reverse=True):
        width = min(width, slots)
        free.sort()
        free[:width] = [free[width - 1] + seconds] * width
    return max(free)


def machine() -> dict[str, Any]:
    """What the times of a calibration depend on."""
    return {"processor": processor(), "cores": usable_cores(), "gpus": len(gpus())}


def calibration_path(runs: Path) -> Path:
    """The calibration of this kind of machine."""
    return runs / "calibration" / f"{digest(machine())}.json"


def shape_digest(config: Config, threads: int) -> str:
    """Equal for configs whose steps and evaluations cost the same; `threads` for runs that leave their number open."""
    shape = config.model_dump(
        mode="json",
        include={
            "model": True,
            "diffusion": {"learned_variance"},
            "training": {"batch", "precision", "backend"},
            "evaluation": {"batch", "extractor", "reference", "samples", "metrics"},
        },
    )
    return digest({**shape, "threads": config.training.threads or threads})
