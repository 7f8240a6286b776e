"""From what a command says to a plan, and from a plan to what is asked of run folders: for `launch` and `manage`."""

import gc
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ablations.grid.arms import arms, find_control
from ablations.grid.reading import GRIDS, load, locate, naming
from ablations.grid.runs import expand
from ablations.grid.schema import GridFile
from ablations.grid.selection import selection
from ablations.options import RUNS
from ablations.plan import manifest as manifests
from ablations.plan.plan import Planned, broken_matches, plan
from diffussm.config import TrainingConfig, bases, resolve
from diffussm.errors import UserError, unknown
from diffussm.store.manifests import Manifest
from diffussm.store.rundir import RunDir


@contextmanager
def _nothing_to_collect() -> Iterator[None]:
    """A plan's many objects all stay: looking through them for garbage takes a sixth of its time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@dataclass(frozen=True)
class Asked:
    """A grid as a command asks for it: on which bases, with which seeds and settings, in which folder."""

    file: Path
    grid: GridFile
    bases: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]
    runs: Path

    @classmethod
    def of(
        cls, name: str, base: str | None, seeds: Sequence[int] | None, settings: Mapping[str, Any], runs: Path
    ) -> "Asked":
        if base and base not in bases():
            raise unknown("base", base, bases())
        grid = load(name)
        return cls(
            file=locate(name),
            grid=grid,
            bases=(base,) if base else grid.bases,
            seeds=tuple(seeds) if seeds else grid.seed_list,
            settings=settings,
            runs=runs,
        )

    @property
    def name(self) -> str:
        return self.file.stem

    def plan(self) -> list[Planned]:
        """Every run of the grid, on all bases."""
        with naming(self.file), _nothing_to_collect():
            expanded = {base: expand(self.grid, base, self.seeds, self.settings) for base in self.bases}
            if (count := sum(map(len, expanded.values()))) > (most := self.grid.max_runs):
                raise UserError(f"max_runs: {count:,} runs on all bases, allowed: {most:,}; raise it if meant")
            return [p for base, runs in expanded.items() for p in plan(base, runs, self.runs)]

    def training(self) -> TrainingConfig:
        """Steps and milestones that the others' are scaled from: the control's, or else the first arm's."""
        made = arms(self.grid)
        arm = find_control(self.grid, made) if self.grid.budget == "macs" else made[0]
        return resolve(self.bases[0], {**self.settings, **arm.overrides}).training

    def command(self, only: Sequence[str] = ()) -> str:
        """The command that launches it."""
        shipped = self.file.absolute().parent == GRIDS
        words = ["python", "ablations/launch.py", "--grid", self.name if shipped else str(self.file)]
        words += [] if self.bases == self.grid.bases else ["--base", *self.bases]
        words += [] if self.seeds == self.grid.seed_list else ["--seeds", _seeds(self.seeds)]
        words += [word for pattern in only for word in ("--only", pattern)]
        words += [word for key, value in self.settings.items() for word in ("--set", f"{key}={_toml(value)}")]
        words += [] if self.runs == RUNS else ["--runs", str(self.runs)]
        return shlex.join(words)

    def warnings(self, whole: list[Planned]) -> list[str]:
        return [
            words
            for base in self.bases
            for words in broken_matches(self.grid.matched, [p for p in whole if p.base == base])
        ]

    def ask(self, planned: list[Planned], whole: list[Planned], replay: bool, others_stay: bool = False) -> bool:
        """Write requests of `planned` and manifests of `whole`; True if a manifest replaces one made with other
        settings, but for what is left as it is with `others_stay`. UserError, and nothing written, for what cannot be
        had."""
        _check_requirements(whole)  # the manifest holds all arms
        if not replay:
            _refuse_lost(planned)
        for p in planned:
            run = RunDir.create(self.runs, p.run.config)
            run.add_request(p.request)
            if p.lost:
                run.allow_replay(p.request)
        replaced = [
            manifests.write(
                self.runs,
                self.file,
                self.grid,
                base,
                self.settings,
                [p for p in whole if p.base == base],
                others_stay,
            )
            for base in self.bases
        ]
        return any(replaced)


@dataclass(frozen=True)
class Extension:
    """More steps asked of the runs of a manifest, beside the milestones that were asked before."""

    asked: Asked
    planned: list[Planned]
    whole: list[Planned]
    only: Sequence[str]

    def ask(self) -> str:
        """Write it; returns the command that launches it."""
        self.asked.ask(self.planned, self.planned, replay=False, others_stay=len(self.planned) < len(self.whole))
        return self.asked.command(self.only)


def extension(manifest: Manifest, runs: Path, only: Sequence[str], steps: int) -> Extension | None:
    """Of the runs of a manifest that are meant; None if none is. UserError where a level sets the steps, where they are
    fewer than before, or the grid's file is gone."""
    if not Path(manifest.file).exists():
        raise UserError(f"{manifest.file}: the grid's file is gone; put it back to extend its runs")
    seeds = sorted({entry.seed for entry in manifest.runs})
    before = Asked.of(manifest.file, manifest.base, seeds, manifest.settings, runs)
    training = before.training()
    if steps <= training.steps:
        where = f"{manifest.grid} on {manifest.base}"
        raise UserError(f"--steps {steps}: {where} has {training.steps} steps; allowed: more")
    milestones = sorted({*(step for step in training.milestones if step < training.steps), training.steps})
    asked = replace(before, settings={**before.settings, "training.steps": steps, "training.milestones": milestones})
    whole, meant = asked.plan(), selection(only)
    planned = [p for p in whole if meant(p.run.arm.name, p.run.arm.levels, p.run.run_id)]
    return Extension(asked, planned, whole, only) if planned else None


def _seeds(seeds: tuple[int, ...]) -> str:
    return str(len(seeds)) if seeds == tuple(range(len(seeds))) else ",".join(map(str, seeds)) + "," * (len(seeds) == 1)


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_requirements(planned: list[Planned]) -> None:
    for p in planned:
        if p.arm.missing_requirement:
            raise UserError(p.arm.missing_requirement)


def _refuse_lost(planned: list[Planned]) -> None:
    for p in planned:
        if p.lost:
            raise UserError(
                f"training.milestones: {p.run.run_id} is trained to step {p.state.step} and kept no weights of step "
                f"{p.lost[0]}: ask for kept milestones or later ones, or let it be trained again to there (--replay)"
            )
