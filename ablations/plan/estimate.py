"""Estimates of how long runs take: from what `--calibrate` measured on this machine, or else from assumed rates."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablations.plan.calibration import Calibration, ShapeTiming, shape_digest
from ablations.plan.plan import PlannedRun
from diffussm.errors import UserError
from diffussm.host.machine import gpus

# MACs per second that are assumed where nothing was measured; every estimate names the rate that it is based on.
CORE_RATE = 10e9  # of one core in float32: the digits base reaches this on a server
UTILISATION = 0.35  # of a GPU's peak
GPU_RATES = {
    "bf16": 156e12 * UTILISATION,
    "tf32": 78e12 * UTILISATION,
    "float32": 9.75e12 * UTILISATION,
}  # of one A100, in MACs
NOT_MEASURED = "; --calibrate measures how long these runs take on this machine"


@dataclass(frozen=True)
class Estimate:
    """Seconds of the remaining training of a run, and of its remaining evaluations; None if they are unknown."""

    training: float | None
    evaluation: float | None
    basis: str  # measured | by MACs | assumed | unknown

    @property
    def seconds(self) -> float | None:
        return None if self.training is None or self.evaluation is None else self.training + self.evaluation


class Estimates:
    """Estimated times of planned runs on this machine, each run on one slot.

    `entries` are those of a calibration file; `threads` is the number of threads of a run whose config does not set it.
    `warnings` say what could not be read.
    """

    def __init__(self, entries: Mapping[str, ShapeTiming], threads: int, warnings: Sequence[str] = ()):
        self.entries, self.threads, self.warnings = entries, threads, warnings
        self._has_gpu = bool(gpus())

    @classmethod
    def load(cls, runs: Path, threads: int) -> "Estimates":
        try:
            return cls(Calibration.load(runs).entries, threads)
        except UserError as damage:
            return cls({}, threads, [str(damage)])

    def estimate(self, p: PlannedRun) -> Estimate:
        """Return the estimate for the remaining training steps and evaluations of the run."""
        if p.done:
            return Estimate(0.0, 0.0, "measured")
        config, macs = p.run.config, p.spec.macs.total
        e = config.evaluation
        images = p.remaining_evaluations * e.samples * e.sampler_steps * (1 if e.guidance == 1 else 2)
        if self.entries and (entry := self.entries.get(shape_digest(config, self.threads))):
            sampling = images * entry.seconds_per_image_and_call
            fixed = p.remaining_evaluations * entry.evaluation_seconds
            return Estimate(p.remaining_steps * entry.seconds_per_step, sampling + fixed, "measured")
        if macs is None or p.macs_per_step is None:
            return Estimate(None, None, "unknown")
        known = [
            (e, e.macs_per_step, e.macs_per_call) for e in self.entries.values() if e.macs_per_step and e.macs_per_call
        ]
        if known:
            step = statistics.median(entry.seconds_per_step / per_step for entry, per_step, _ in known)
            image = statistics.median(entry.seconds_per_image_and_call / per_call for entry, _, per_call in known)
            fixed = p.remaining_evaluations * statistics.median(entry.evaluation_seconds for entry, _, _ in known)
            return Estimate(p.remaining_steps * step * p.macs_per_step, images * image * macs + fixed, "by MACs")
        training, evaluation = self._rates(p)
        return Estimate(p.remaining_steps * p.macs_per_step / training, images * macs / evaluation, "assumed")

    def basis_of(self, estimated: Mapping[PlannedRun, Estimate]) -> str:
        """Return what the estimates of the runs are based on, in one sentence."""
        todo = [p for p in estimated if not p.done]
        bases = {estimated[p].basis for p in todo}
        if not todo:
            return "nothing is left to do"
        if "assumed" in bases:
            rates = sorted({rate for p in todo for rate in self._describe_rates(p)})
            return f"assumed: {', '.join(rates)}{NOT_MEASURED}"
        if "by MACs" in bases:
            return "measured on this machine for other shapes and scaled by MACs; run with --calibrate to measure these"
        if "unknown" in bases:
            return "measured on this machine; the MACs of some mixers are unknown"
        return "measured on this machine with no other worker running"

    def _rates(self, p: PlannedRun) -> tuple[float, float]:
        """Return the assumed MACs per second of the run's training and of its evaluations."""
        if self._on_gpu(p):
            return gpu_rates(p)
        rate = CORE_RATE * (p.run.config.training.threads or self.threads)
        return rate, rate

    def _describe_rates(self, p: PlannedRun) -> list[str]:
        return describe_gpu_rates(p) if self._on_gpu(p) else [describe_core_rate()]

    def _on_gpu(self, p: PlannedRun) -> bool:
        return self._has_gpu or p.run.config.training.precision != "float32"


def gpu_rates(p: PlannedRun) -> tuple[float, float]:
    """Return the assumed MACs per second of a GPU in the run's training and in its evaluations."""
    config = p.run.config
    return GPU_RATES[config.training.precision], GPU_RATES[config.evaluation.precision]


def describe_gpu_rates(p: PlannedRun) -> list[str]:
    config = p.run.config
    return [
        f"an A100 at {GPU_RATES[precision] / 1e12:.3g} T MACs/s in {precision}, {UTILISATION:.0%} of its peak"
        for precision in {config.training.precision, config.evaluation.precision}
    ]


def describe_core_rate() -> str:
    return f"{CORE_RATE / 1e9:.0f} G MACs/s per core"
