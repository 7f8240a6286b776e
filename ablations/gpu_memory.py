"""What the trainings of a plan take of a GPU's memory: a line, and warnings of what does not fit. No torch."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ablations.plan.plan import PlannedRun
from diffussm.config import Config
from diffussm.cost.memory.fit import Fit
from diffussm.cost.memory.report import as_json
from diffussm.errors import UserError
from diffussm.run.request import step_settings
from diffussm.store.execution import StepSettings


@dataclass(frozen=True)
class GpuMemory:
    """The memory of the arms that are still to be trained on GPUs, by their names."""

    fits: dict[str, Fit]

    @classmethod
    def of(
        cls,
        planned: Iterable[PlannedRun],
        gpus: Callable[[PlannedRun], int],
        memory_gb: float | None,
        changes: Mapping[str, Any],
    ) -> "GpuMemory":
        """Return the memory of planned runs, each on a number of GPUs (0: it is trained on a CPU) of `memory_gb`, by
        the step settings that are in force for it and `changes` of them."""
        todo = [p for p in planned if p.remaining_steps and gpus(p)]
        several_bases = len({p.base for p in todo}) > 1
        fits: dict[str, Fit] = {}
        for p in todo:
            name = f"{p.run.arm.name} on {p.base}" if several_bases else p.run.arm.name
            if name not in fits:  # another seed takes the same
                fits[name] = Fit(_computed(p, changes), gpus(p), memory_gb)
        return cls(fits)

    def __str__(self) -> str:
        """Return the sentence of the arm that takes most; "" if none is to be trained on a GPU."""
        if not self.fits:
            return ""
        of_arm = "" if len(self.fits) == 1 else f" (of {self._largest}, which takes most)"
        return f"Memory{of_arm}: {self.fits[self._largest]}."

    @property
    def warnings(self) -> list[str]:
        """What does not fit, and what would; arms that take the same are in one."""
        arms: dict[str, list[str]] = {}
        for name, fit in self.fits.items():
            if not fit.fits:
                arms.setdefault(str(fit), []).append(name)
        return [f"memory of {_listed(names)}: {sentence}" for sentence, names in arms.items()]

    def as_json(self) -> dict[str, Any] | None:
        """Return the account of the arm that takes most, without its parts; None if it is unknown or there is none."""
        found = as_json(self.fits[self._largest]) if self.fits else None
        return None if found is None else {"arm": self._largest, **{k: v for k, v in found.items() if k != "parts"}}

    @cached_property
    def _largest(self) -> str:
        return max(self.fits, key=lambda name: 0 if (a := self.fits[name].account) is None else a.peak)


def _computed(p: PlannedRun, changes: Mapping[str, Any]) -> Config:
    """Return the run's config with the step settings that are in force for it, but for changes."""
    settings = StepSettings.of(p.run.config)
    with suppress(UserError):  # that the folder is damaged is said elsewhere
        settings = step_settings(p.run_dir, p.run.config)
    return settings.model_copy(update=changes).in_config(p.run.config)


def _listed(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names) if len(names) <= most else f"{', '.join(names[:most])} and {len(names) - most} more"
