"""Execution settings of a run: `machine.json`, chosen at the run's first start, and the changes that a user ordered."""

import re
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, Field, field_validator

from diffussm.config import BACKEND_NAMES, Checkpointing, Compilation, Config
from diffussm.store.orders import NumberedFiles
from diffussm.store.reading import StoredModel, names_in, read_model
from diffussm.store.writing import to_json, write_atomically


class StepSettings(StoredModel):
    """How a training step is computed, whatever its result up to rounding. Runs of versions before state nothing."""

    compile: Compilation = Field("none", description="block: each block is a graph of torch.compile")
    checkpointing: Checkpointing = Field("none", description="block: blocks are computed again in the backward pass")
    micro_batch: int = Field(0, ge=0, description="most images that a process computes at once; 0: all of its part")

    @classmethod
    def of(cls, config: Config) -> "StepSettings":
        """Return the settings of a config."""
        return cls(**{name: getattr(config.training, name) for name in StepSettings.model_fields})

    @property
    def step_settings(self) -> dict[str, Any]:
        """The settings alone, by name."""
        return {name: getattr(self, name) for name in StepSettings.model_fields}

    def in_config(self, config: Config) -> Config:
        """Return the config with these settings."""
        return config.model_copy(update={"training": config.training.model_copy(update=self.step_settings)})


class Execution(StepSettings):
    """The execution settings chosen at the run's first start and reused by later ones."""

    model_config = ConfigDict(populate_by_name=True)

    repair: ClassVar[str] = "restore it, or delete it: the machine that continues the run then chooses them anew"

    backend: str = Field(description="implementation of S4D")
    threads: int = Field(ge=1, description="threads of torch on the CPU")
    device: str = Field(min_length=1, description="cpu or cuda")
    micro_batches: int = Field(
        1, ge=1, alias="shares", description="parts of a training batch: processes that began the run"
    )

    @field_validator("backend")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in BACKEND_NAMES:
            raise ValueError(f"unknown backend; valid: {', '.join(BACKEND_NAMES)}")
        return name

    def with_settings(self, settings: StepSettings) -> "Execution":
        """Return these with other step settings."""
        return self.model_copy(update=settings.step_settings)


class OrderedSettings(StepSettings):
    """Step settings that a user ordered, in force from the next start of the training on."""

    repair: ClassVar[str] = "delete it to have the settings before it in force, or order them anew"

    attempt: int = Field(ge=0, description="last attempt at the training then; if it failed, that is void")


class HeldSettings(StepSettings):
    """Step settings by which a training was continued."""

    repair: ClassVar[str] = "delete it: records then do not state from which step on its settings held"

    step: int = Field(ge=0, description="training steps before")


class SettingsFiles:
    """Changes of the step settings of the run in a folder: `settings/<n>.json` was ordered, and the highest n is in
    force; `settings-<attempt>.json` states from which step on an attempt computed by others than those before it."""

    def __init__(self, run: Path):
        self._run = run
        self._orders = NumberedFiles(run / "settings", OrderedSettings)

    def ordered(self) -> OrderedSettings | None:
        """Return the settings that were ordered last; None if none ever were."""
        return self._orders.last()

    def order(self, changes: dict[str, Any], before: StepSettings, attempt: int) -> bool:
        """Order changes of the settings in force, `before` where none were ordered; return whether they are changes.
        `attempt` is the last one at the training."""
        settings = (self.ordered() or before).step_settings
        if settings | changes == settings:
            return False
        self._orders.append(OrderedSettings(**(settings | changes), attempt=attempt))
        return True

    def hold(self, settings: StepSettings, attempt: int, step: int, first: StepSettings) -> None:
        """State that an attempt continues the training by these settings after `step` steps. `first` are those of the
        first start."""
        last = self.held(first)[-1]
        if last.step > step or last.step_settings != settings.step_settings:
            held = HeldSettings(**settings.step_settings, step=step)
            write_atomically(self._run / f"settings-{attempt}.json", to_json(held.model_dump(mode="json")))

    def held(self, first: StepSettings, steps: int | None = None) -> list[HeldSettings]:
        """Return by which settings the first `steps` steps, or all, were computed, in order. `first` are those of the
        first start."""
        out = [HeldSettings(**first.step_settings, step=0)]
        attempts = (re.fullmatch(r"settings-(\d+)\.json", name) for name in names_in(self._run))
        for attempt in sorted(int(match[1]) for match in attempts if match):
            held = read_model(self._run / f"settings-{attempt}.json", HeldSettings)
            out = [*(before for before in out if before.step < held.step), held]  # it began again at an earlier step
        return [one for one in out if steps is None or one.step < steps]
