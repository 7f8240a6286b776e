"""How long runs will take, from what `--calibrate` measured on this machine, or else from a stated assumption."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.plan.plan import Planned
from diffussm.config import Config, digest
from diffussm.host.machine import gpus, processor, usable_cores
from diffussm.store.workdir import read_json

# MACs per second where nothing was measured; said beside every estimate that stands on it.
CORE_RATE = 10e9  # of one core in float32: what the digits base reaches on a server's
UTILISATION = 0.35  # of a GPU's peak
GPU_RATES = {"bf16": 156e12 * UTILISATION, "float32": 9.75e12 * UTILISATION}  # of one A100, in MACs


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
        training, evaluation = self._rates(p)
        return Estimate(p.steps_left * p.macs_per_step / training, images * macs / evaluation, "assumed")

    def stand_on(self, estimated: Mapping[Planned, Estimate]) -> str:
        """On what the estimates of the runs stand: a sentence."""
        todo = [p for p in estimated if not p.done]
        bases = {estimated[p].basis for p in todo}
        if "assumed" in bases:
            rates = sorted({self._rate_words(p) for p in todo})
            return f"assumed: {', '.join(rates)}; nothing was measured here (--calibrate does)"
        if "by MACs" in bases:
            return "measured on this machine for other shapes, and scaled by MACs (--calibrate measures these)"
        if "unknown" in bases:
            return "measured on this machine; the MACs of some mixers are unknown"
        return "measured on this machine with one worker alone"

    def _rates(self, p: Planned) -> tuple[float, float]:
        """MACs per second that are assumed of the run's training and of its evaluations."""
        training = p.run.config.training
        on_gpu = self._has_gpu or training.precision == "bf16"
        rate = GPU_RATES[training.precision] if on_gpu else CORE_RATE * (training.threads or self.threads)
        return rate, rate

    def _rate_words(self, p: Planned) -> str:
        precision = p.run.config.training.precision
        return gpu_words(precision) if self._has_gpu or precision == "bf16" else core_words()


def gpu_words(precision: str) -> str:
    return f"an A100 at {GPU_RATES[precision] / 1e12:.3g} T MACs/s in {precision}, {UTILISATION:.0%} of its peak"


def core_words() -> str:
    return f"{CORE_RATE / 1e9:.0f} G MACs/s a core"


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
