"""A table of every run of launched grids with its state, read from manifests and run folders."""

import fnmatch
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.grid.selection import is_selected
from ablations.status.scheduler import NO_SCHEDULER, Scheduler
from ablations.status.states import STATES, RunState, state_of
from diffussm import tables
from diffussm.errors import UserError, unknown
from diffussm.run.heartbeat import Liveness
from diffussm.store.manifests import Manifest
from diffussm.store.rundir import RunDir

LEFT_ALIGNED = ("base", "arm", "run", "state", "GPU", "reason")
LONGEST_REASON = 60


@dataclass(frozen=True)
class Row:
    """A run of a grid."""

    grid: str
    base: str
    arm: str
    seed: int
    run: RunDir
    state: RunState

    def as_dict(self) -> dict[str, Any]:
        return {
            "grid": self.grid,
            "base": self.base,
            "arm": self.arm,
            "seed": self.seed,
            "run": self.run.run_id,
            **self.state.as_dict(),
        }


def overview(
    runs: Path,
    manifests: Iterable[Manifest],
    only: Sequence[str],
    liveness: Liveness,
    scheduler: Scheduler = NO_SCHEDULER,
) -> list[Row]:
    """Return a row for each run of the manifests that `only` selects (see `ablations.grid.selection`)."""
    rows = []
    for manifest in manifests:
        for entry in manifest.runs:
            if is_selected(only, entry.arm, entry.levels, entry.run_id):
                run = RunDir(runs / entry.run_id)
                state = state_of(run, entry.steps, entry.milestones, entry.digests, liveness, scheduler)
                rows.append(Row(manifest.grid, manifest.base, entry.arm, entry.seed, run, state))
    return rows


def counts(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the number of runs in each state, for each grid on each base."""
    grids: dict[tuple[str, str], Counter[str]] = {}
    for row in rows:
        grids.setdefault((row.grid, row.base), Counter())[row.state.name] += 1
    return [
        {"grid": grid, "base": base, "runs": count.total(), **{state: count[state] for state in STATES}}
        for (grid, base), count in grids.items()
    ]


def summary(rows: Sequence[Row]) -> str:
    """Return the counts as text, a line for each grid on each base."""
    return "\n".join(
        f"{c['grid']} on {c['base']}: {tables.plural(c['runs'], 'run')}: "
        + ", ".join(f"{c[state]} {state}" for state in STATES if c[state])
        for c in counts(rows)
    )


def text(rows: Sequence[Row]) -> str:
    """Return the rows as text, a table for each grid on each base."""
    parts = []
    for c in counts(rows):
        own = [row for row in rows if (row.grid, row.base) == (c["grid"], c["base"])]
        with_gpus = any(row.state.gpus for row in own)
        parts.append(tables.aligned([_cells(row, with_gpus) for row in own], LEFT_ALIGNED))
    return "\n\n".join(parts) + "\n"


def _cells(row: Row, with_gpus: bool) -> dict[str, Any]:
    s = row.state
    reason = s.reason if len(s.reason) <= LONGEST_REASON else f"{s.reason[: LONGEST_REASON - 3]}..."
    return {
        "arm": row.arm,
        "seed": row.seed,
        "run": row.run.run_id,
        "state": s.name,
        "step": f"{s.step}/{s.steps}",
        "evaluated": f"{s.evaluated}/{s.evaluations}",
        "loss": "" if s.loss is None else f"{s.loss:.4f}",
        "FID": "" if s.fid is None else f"{s.fid:.2f}",
        "steps/s": "" if s.steps_per_second is None else f"{s.steps_per_second:.3g}",
        "ETA": "" if s.eta_seconds is None else tables.format_duration(s.eta_seconds),
        **({"GPU": " ".join(s.gpus)} if with_gpus else {}),
        "attempts": s.attempts,
        "reason": reason,
    }


def find(rows: Sequence[Row], name: str) -> RunDir:
    """Return the one run that `name` selects: its id, the beginning of it, or a pattern on id or arm; raise UserError
    if there is none, or more than one."""
    runs = {row.run.run_id: row for row in rows}
    found = [row for run_id, row in runs.items() if run_id == name]
    found = found or [row for run_id, row in runs.items() if run_id.startswith(name)]
    found = found or [r for i, r in runs.items() if fnmatch.fnmatchcase(i, name) or fnmatch.fnmatchcase(r.arm, name)]
    if not found:
        raise unknown("run", name, runs)
    if len(found) > 1:
        raise UserError(
            f"run {name!r}: {len(found)} runs match: {', '.join(row.run.run_id for row in found)}; give one run id"
        )
    return found[0].run
