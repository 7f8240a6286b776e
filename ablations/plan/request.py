"""A request for a grid: from the arguments of a command to a plan, and from a plan to the files of the request."""

import gc
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ablations.grid.arms import arms, find_control
from ablations.grid.reading import GRIDS, load, locate, naming_file
from ablations.grid.runs import expand
from ablations.grid.schema import GridFile
from ablations.options import RUNS, script
from ablations.plan import manifest as manifests
from ablations.plan.plan import PlannedRun, broken_matches, by_run, plan, select
from diffussm.config import TrainingConfig, absolute, base_name, check_base, is_recipe_file
from diffussm.data.lookup.resolution import resolve_with_data
from diffussm.errors import UserError
from diffussm.run.request import kept_settings, lost_milestone, order_settings
from diffussm.store.manifests import Manifest
from diffussm.store.rundir import RunDir


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Suspend garbage collection: a plan frees none of its many objects, and traversing them takes a sixth of its
    time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@dataclass(frozen=True)
class GridRequest:
    """A grid as a command requests it: the bases, the seeds, the settings, and the folder of the run folders."""

    file: Path
    grid: GridFile
    bases: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]
    runs: Path
    step_settings: dict[str, Any] = field(default_factory=dict)  # to change in all runs

    @classmethod
    def from_arguments(
        cls,
        name: str,
        base: str | None,
        seeds: Sequence[int] | None,
        settings: Mapping[str, Any],
        runs: Path,
        step_settings: dict[str, Any] | None = None,
    ) -> "GridRequest":
        """Return the request for the grid `name`; what is None is as in the grid's file."""
        if base:
            check_base(base)
            base = str(Path(base).absolute()) if is_recipe_file(base) else base
        grid = load(name)
        return cls(
            file=locate(name),
            grid=grid,
            bases=(base,) if base else grid.bases,
            seeds=tuple(seeds) if seeds else grid.seed_list,
            settings={key: absolute(key, value) for key, value in settings.items()},
            runs=runs,
            step_settings=step_settings or {},
        )

    @property
    def name(self) -> str:
        return self.file.stem

    @property
    def base_names(self) -> str:
        """The names of the bases, for messages."""
        return ", ".join(map(base_name, self.bases))

    @property
    def selector(self) -> str:
        """The options by which `manage.py` and `make_figures.py` select this grid, for commands that are shown."""
        return f"--grid {self.name}" + ("" if self.runs == RUNS else f" --runs {shlex.quote(str(self.runs))}")

    def plan(self) -> list[PlannedRun]:
        """Plan every run of the grid on all bases."""
        with naming_file(self.file), _without_garbage_collection():
            expanded = {base: expand(self.grid, base, self.seeds, self.settings) for base in self.bases}
            if (count := sum(map(len, expanded.values()))) > (most := self.grid.max_runs):
                raise UserError(
                    f"max_runs: {count:,} runs on all bases, more than {most:,}; raise it in the grid file if intended"
                )
            return [p for base, runs in expanded.items() for p in plan(base_name(base), runs, self.runs)]

    def training(self) -> TrainingConfig:
        """Return the training config of the control, from which those of other arms are scaled, or else of the first
        arm."""
        all_arms = arms(self.grid)
        arm = find_control(self.grid, all_arms) if self.grid.budget == "macs" else all_arms[0]
        return resolve_with_data(self.bases[0], {**self.settings, **arm.overrides}).training

    def command(self, only: Sequence[str] = ()) -> str:
        """Return the command that launches this grid."""
        shipped = self.file.absolute().parent == GRIDS
        arguments = ["--grid", self.name if shipped else str(self.file)]
        arguments += [] if self.bases == self.grid.bases else ["--base", *self.bases]
        arguments += [] if self.seeds == self.grid.seed_list else ["--seeds", _seeds(self.seeds)]
        arguments += [word for pattern in only for word in ("--only", pattern)]
        arguments += [word for key, value in self.settings.items() for word in ("--set", f"{key}={_toml(value)}")]
        arguments += [] if self.runs == RUNS else ["--runs", str(self.runs)]
        return f"{script('ablations/launch.py')} {shlex.join(arguments)}"

    def warnings(self, all_planned: list[PlannedRun]) -> list[str]:
        """Messages about quantities that the grid declares matched and that are not, about milestones beyond the steps,
        about what was baked into the data, about references and extractors that were made of other data than the
        runs', and about step settings that runs keep instead of those given."""
        matches = [
            message
            for base in self.bases
            for message in broken_matches(self.grid.matched, [p for p in all_planned if p.base == base_name(base)])
        ]
        of_runs = (
            (*p.spec.warnings, *kept_settings(p.run_dir, p.run.config, self.settings, self.step_settings))
            for p in all_planned
        )
        return [*matches, *dict.fromkeys(warning for warnings in of_runs for warning in warnings)]

    def write(
        self, planned: list[PlannedRun], all_planned: list[PlannedRun], replay: bool, keep_others: bool = False
    ) -> list[manifests.Difference]:
        """Write the requests of the runs `planned` and the manifests of the whole plan `all_planned`; return why
        manifests replace earlier ones.

        With `keep_others`, the entries of runs outside `all_planned` stay. Raise UserError, with nothing written, if
        a run misses a requirement or a milestone cannot be reached without a replay.
        """
        check_requirements(all_planned)  # the manifest lists all arms
        if not replay:
            _check_milestones(planned)
        for runs in by_run(planned).values():
            run = RunDir.create(self.runs, runs[0].run.config)
            run.add_requests([p.request for p in runs])
            for p in runs:
                if p.lost:
                    run.allow_replay(p.request)
            if self.step_settings:
                order_settings(run, self.step_settings)
        replaced = [
            manifests.write(
                self.runs,
                self.file,
                self.grid,
                base,
                self.settings,
                [p for p in all_planned if p.base == base_name(base)],
                keep_others,
            )
            for base in self.bases
        ]
        return [difference for difference in replaced if difference]


@dataclass(frozen=True)
class Extension:
    """A request for more steps of the runs of a manifest, at the milestones that were requested before and at the
    end."""

    request: GridRequest
    planned: list[PlannedRun]
    all_planned: list[PlannedRun]
    only: Sequence[str]

    def write(self) -> str:
        """Write the request; returns the command that launches it."""
        keep_others = len(self.planned) < len(self.all_planned)
        self.request.write(self.planned, self.planned, replay=False, keep_others=keep_others)
        return self.request.command(self.only)


def extension(manifest: Manifest, runs: Path, only: Sequence[str], steps: int) -> Extension | None:
    """Return the extension of those runs of a manifest that `only` selects; None if it selects none. Raise UserError if
    a level sets the steps, if `steps` are not more than before, if the grid's file is missing, or if the base, its data
    or the arms have changed: its runs would be others."""
    if not Path(manifest.file).exists():
        raise UserError(f"{manifest.file}: the grid's file does not exist; restore it to extend its runs")
    seeds, base = sorted({entry.seed for entry in manifest.runs}), manifest.base_file or manifest.base
    before = GridRequest.from_arguments(manifest.file, base, seeds, manifest.settings, runs)
    training = before.training()
    if steps <= training.steps:
        where = f"{manifest.grid} on {manifest.base}"
        raise UserError(f"--steps {steps}: {where} has {training.steps} steps; allowed: more")
    milestones = sorted({*(step for step in training.milestones if step < training.steps), training.steps})
    request = replace(before, settings={**before.settings, "training.steps": steps, "training.milestones": milestones})
    all_planned = request.plan()
    if difference := manifests.extension_difference(manifest, base, before.settings, all_planned):
        raise UserError(
            f"{manifest.grid} on {manifest.base}: {difference.reason}: its runs cannot be extended; restore the "
            f"{difference.what} of before, or launch the grid anew for runs of the present one"
        )
    planned = select(all_planned, only)
    return Extension(request, planned, all_planned, only) if planned else None


def _seeds(seeds: tuple[int, ...]) -> str:
    return str(len(seeds)) if seeds == tuple(range(len(seeds))) else ",".join(map(str, seeds)) + "," * (len(seeds) == 1)


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def check_requirements(planned: list[PlannedRun]) -> None:
    """Raise UserError for the first run that lacks data or weights."""
    for p in planned:
        if p.spec.missing_requirement:
            raise UserError(p.spec.missing_requirement)


def _check_milestones(planned: list[PlannedRun]) -> None:
    for p in planned:
        if p.lost:
            raise lost_milestone(p.run.run_id, p.state.step, p.lost[0])
