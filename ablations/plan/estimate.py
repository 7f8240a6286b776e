"""Estimates of how long runs take: from what `--calibrate` measured on this machine, or else from assumed rates."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.plan.plan import Planned
from diffussm.config import Config, digest
from diffussm.host.machine import gpus, processor, usable_cores
from diffussm.store.workdir import read_json

# MACs per second that are assumed where nothing was measured; every estimate names the rate that it is based on.
CORE_RATE = 10e9  # of one core in float32: the digits base reaches this on a server
UTILISATION = 0.35  # of a GPU's peak
GPU_RATES = {"bf16": 156e12 * UTILISATION, "float32": 9.75e12 * UTILISATION}  # of one A100, in MACs


@dataclass(frozen=True)
class Estimate:
    """Seconds of the remaining training of a run, and of its remaining evaluations; None where they are unknown."""

    training: float | None
    evaluation: float | None
    basis: str  # measured | by MACs | assumed | unknown

    @property
    def seconds(self) -> float | None:
        return None if self.training is None or self.evaluation is None else self.training + self.evaluation


class Estimates:
    """Estimated times of planned runs on this machine, each run on one slot.

    `entries` are those of a calibration file; `threads` is the number of threads of a run whose config does not set it.
    """

    def __init__(self, entries: dict[str, Any], threads: int):
        self.entries, self.threads = entries, threads
        self._has_gpu = bool(gpus())

    @classmethod
    def load(cls, path: Path, threads: int) -> "Estimates":
        return cls(read_json(path)["entries"] if path.exists() else {}, threads)

    def of(self, p: Planned) -> Estimate:
        """The estimate for the remaining training steps and evaluations of the run."""
        if p.done:
            return Estimate(0.0, 0.0, "measured")
        config, macs = p.run.config, p.spec.macs.total
        e = config.evaluation
        images = p.remaining_evaluations * e.samples * e.sampler_steps * (1 if e.guidance == 1 else 2)
        if self.entries and (entry := self.entries.get(shape_digest(config, self.threads))):
            sampling = images * entry["seconds_per_image_and_call"]
            fixed = p.remaining_evaluations * entry["evaluation_seconds"]
            return Estimate(p.remaining_steps * entry["seconds_per_step"], sampling + fixed, "measured")
        if macs is None or p.macs_per_step is None:
            return Estimate(None, None, "unknown")
        known = [entry for entry in self.entries.values() if entry["macs_per_call"]]
        if known:
            step = statistics.median(entry["seconds_per_step"] / entry["macs_per_step"] for entry in known)
            image = statistics.median(entry["seconds_per_image_and_call"] / entry["macs_per_call"] for entry in known)
            fixed = p.remaining_evaluations * statistics.median(entry["evaluation_seconds"] for entry in known)
            return Estimate(p.remaining_steps * step * p.macs_per_step, images * image * macs + fixed, "by MACs")
        training, evaluation = self._rates(p)
        return Estimate(p.remaining_steps * p.macs_per_step / training, images * macs / evaluation, "assumed")

    def basis_of(self, estimated: Mapping[Planned, Estimate]) -> str:
        """What the estimates of the runs are based on, in one sentence."""
        todo = [p for p in estimated if not p.done]
        bases = {estimated[p].basis for p in todo}
        if "assumed" in bases:
            rates = sorted({self._describe_rate(p) for p in todo})
            return f"assumed: {', '.join(rates)}; nothing was measured here (--calibrate does)"
        if "by MACs" in bases:
            return "measured on this machine for other shapes, and scaled by MACs (--calibrate measures these)"
        if "unknown" in bases:
            return "measured on this machine; the MACs of some mixers are unknown"
        return "measured on this machine with one worker alone"

    def _rates(self, p: Planned) -> tuple[float, float]:
        """The assumed MACs per second of the run's training and of its evaluations."""
        training = p.run.config.training
        on_gpu = self._has_gpu or training.precision == "bf16"
        rate = GPU_RATES[training.precision] if on_gpu else CORE_RATE * (training.threads or self.threads)
        return rate, rate

    def _describe_rate(self, p: Planned) -> str:
        precision = p.run.config.training.precision
        return describe_gpu_rate(precision) if self._has_gpu or precision == "bf16" else describe_core_rate()


def describe_gpu_rate(precision: str) -> str:
    return f"an A100 at {GPU_RATES[precision] / 1e12:.3g} T MACs/s in {precision}, {UTILISATION:.0%} of its peak"


def describe_core_rate() -> str:
    return f"{CORE_RATE / 1e9:.0f} G MACs/s a core"


def machine() -> dict[str, Any]:
    """The properties of this machine that the times of a calibration depend on."""
    return {"processor": processor(), "cores": usable_cores(), "gpus": len(gpus())}


def calibration_path(runs: Path) -> Path:
    """The path of the calibration file for this kind of machine."""
    return runs / "calibration" / f"{digest(machine())}.json"


def shape_digest(config: Config, threads: int) -> str:
    """A digest that is equal for configs whose steps and evaluations cost the same. `threads` is the number of threads
    of a run whose config does not set it."""
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
