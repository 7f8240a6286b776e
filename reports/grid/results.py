"""The results of a grid as one table, with a row for every requested run and milestone, whether done or missing."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from diffussm.errors import UserError, one_line
from diffussm.metric import UNRELIABLE
from diffussm.metric_table import METRICS
from diffussm.store import records
from diffussm.store.manifests import Manifest
from diffussm.store.reading import read_model
from diffussm.store.rundir import RunDir
from diffussm.store.workdir import WorkDir
from reports.grid.recipes import check_recipes

COPIED = ("arm", "seed", "run_id", "key", "steps", "parameters", "macs_per_call")  # from the manifest's entries
RECORD_ID = ("run_id", "step", "key")  # they identify a record


def frame(found: Iterable[records.Record], varied: Collection[str] = (), what: str = "records") -> pd.DataFrame:
    """Return a table with a row per record: run_id, step, key (its digest), the fields of the key that are `varied`,
    metrics, timing.

    UserError naming the fields of the key in which records differ although they are not varied.
    """
    found = list(found)
    records.common_key((record.key for record in found), what, varied)
    fields = [name for name in records.EvaluationKey.model_fields if name in varied]
    rows = [
        {"run_id": record.run_id, "step": record.step, "key": record.key.digest}
        | {name: getattr(record.key, name) for name in fields}
        | record.metrics
        | record.timing
        for record in found
    ]
    return pd.DataFrame(rows, columns=None if rows else list(RECORD_ID))


@dataclass(frozen=True)
class GridResults:
    """The results of one grid on one base; its records share one evaluation key.

    `table` has a row per (arm, seed, milestone): arm, seed, run_id, step, steps, compared_step, state (done | missing |
    failed | diverged | cancelled), reason, parameters, macs_per_call, and for done rows the columns of `frame`.
    `compared_step` is the step at which a milestone is compared: its own, or that of the `control` if arms are matched
    in training MACs.
    """

    grid: str
    base: str
    claim: str
    source: str
    levels: dict[str, dict[str, str]]  # arm -> axis -> level
    matched: tuple[str, ...]  # the quantities that the grid declares equal across arms
    control: str | None  # the arm whose training MACs all others have; None where steps are equal
    varied: frozenset[str]  # fields of the key that the grid varies
    states_recipe: bool  # whether the manifest says which base and data the runs were launched with
    folders: dict[str, RunDir]  # run id -> folder
    manifest: Path
    requested: pd.DataFrame  # the table without the columns from records
    found: Mapping[int, records.Record]  # row of `requested` -> its record
    key: records.EvaluationKey | None = field(init=False)  # None where there is no record yet
    table: pd.DataFrame = field(init=False)

    def __post_init__(self) -> None:
        measured = frame(self.found.values(), self.varied, str(self.manifest))
        measured = measured.drop(columns=list(RECORD_ID)).set_axis(list(self.found))
        object.__setattr__(self, "table", self.requested.join(measured))
        object.__setattr__(self, "key", next((record.key for record in self.found.values()), None))

    @property
    def arms(self) -> list[str]:
        return list(self.levels)

    @property
    def measures(self) -> list[str]:
        """The names in METRICS that the records have, in its order."""
        return [name for name in METRICS if self.holds(name)]

    def holds(self, column: str) -> bool:
        """Return whether any record has a value in the column."""
        return column in self.table and bool(self.table[column].notna().any())

    @property
    def unreliable(self) -> dict[str, str]:
        """The metrics that are unreliable at this n, and why."""
        keys = dict.fromkeys(record.key for record in self.found.values())
        reasons = [records.unreliable(key, self.measures) for key in keys]
        return {name: why for name in self.measures if (why := next((r[name] for r in reasons if name in r), ""))}

    def label(self, metric: str) -> str:
        """Return the metric's name, its extractor and n, marked if it is unreliable at that n."""
        assert self.key is not None
        return self.key.metric_label(metric) + f" {UNRELIABLE}" * (metric in self.unreliable)

    @property
    def unverifiable(self) -> int:
        """The number of records whose files, of earlier versions, state no digest."""
        return sum(not record.is_verifiable for record in self.found.values())

    @property
    def has_fid(self) -> bool:
        return "fid" in self.measures

    @property
    def run_ids(self) -> list[str]:
        return list(self.table.run_id.unique())

    @property
    def done(self) -> pd.DataFrame:
        return self.table[self.table.state == "done"]

    def floor(self, metric: str) -> float | None:
        """Return the metric of real images at this n; None if it was not measured."""
        floors = self.done.get(f"{metric}_floor", pd.Series(dtype=float)).dropna()
        return None if floors.empty else float(floors.iloc[0])


def load(manifest: Path, runs: Path) -> GridResults:
    """Return all rows of the manifest at that path; raise UserError if it is damaged, if an arm has runs of two
    recipes, as in manifests of before, or if its records do not share one evaluation key."""
    launched = read_model(manifest, Manifest)
    check_recipes(launched, runs, str(manifest))
    rows: list[dict[str, Any]] = []
    found: dict[int, records.Record] = {}
    of_control = next((entry.milestones for entry in launched.runs if entry.arm == launched.control), None)
    for entry in launched.runs:
        folder = RunDir(runs / entry.run_id)
        if len(of_control or entry.milestones) != len(entry.milestones):
            raise UserError(
                f"{manifest}: {entry.arm} has {len(entry.milestones)} milestones, but the control {launched.control} "
                f"has {len(of_control or ())}; launch or extend all arms with the same milestones"
            )
        for compared_step, step in zip(of_control or entry.milestones, entry.milestones, strict=True):
            record = records.find(folder.milestone(step), entry.digests)
            refused = records.refusal_of(folder.milestone(step), entry.digests)
            row = {name: getattr(entry, name) for name in COPIED}
            row |= {
                "step": step,
                "compared_step": compared_step,
                **_state(folder, folder.evaluation(step, entry.key), record, refused),
            }
            if record is not None:
                row["key"] = record.key.digest  # the reference may have had another name
                found[len(rows)] = record
            rows.append(row)
    varied = frozenset(
        key.removeprefix("evaluation.") for entry in launched.runs for key in entry.overrides if "evaluation." in key
    )
    return GridResults(
        grid=launched.grid,
        base=launched.base,
        claim=launched.claim,
        source=launched.source,
        matched=launched.matched,
        control=launched.control,
        levels={entry.arm: entry.levels for entry in launched.runs},
        varied=varied,
        states_recipe=launched.states_recipe,
        folders={entry.run_id: RunDir(runs / entry.run_id) for entry in launched.runs},
        manifest=manifest,
        requested=pd.DataFrame(rows),
        found=found,
    )


def _state(run: RunDir, evaluation: WorkDir, record: records.Record | None, refused: str) -> dict[str, str]:
    """Return the state of a milestone, and why; a damaged file is a failure of its run. A record that is `refused`, for
    that reason, is missing."""
    if record is not None:
        return {"state": "done", "reason": ""}
    if refused:
        return {"state": "missing", "reason": refused}
    try:
        return _unfinished_state(run, evaluation)
    except (UserError, OSError) as damage:
        return {"state": "failed", "reason": one_line(damage)}


def _unfinished_state(run: RunDir, evaluation: WorkDir) -> dict[str, str]:
    for state in (run.state(), evaluation.state()):
        if state.has_failed:
            return {"state": state.phase, "reason": state.reason}
    return {"state": "cancelled" if run.cancelled else "missing", "reason": ""}
