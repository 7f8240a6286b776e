"""What was asked of a grid and what came of it, as one table: a row for every run and milestone, missing ones too."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from diffussm import records
from diffussm.manifests import newest
from diffussm.rundir import RunDir
from diffussm.workdir import WorkDir, read_json

COPIED = ("arm", "seed", "run_id", "key", "steps", "parameters", "macs_per_call")  # from the manifest's entries


@dataclass(frozen=True)
class GridResults:
    """One grid on one base.

    `table` has a row per (arm, seed, milestone): arm, seed, run_id, step, steps, at, state (done | missing | failed |
    diverged | cancelled), reason, parameters, macs_per_call, and where done the metrics and timings of the record. `at`
    is where a milestone is compared: its step, or where arms are matched in training MACs, the `control`'s step.
    """

    grid: str
    base: str
    claim: str
    source: str
    levels: dict[str, dict[str, str]]  # arm -> axis -> level
    matched: list[str]  # what the grid says is equal across arms
    control: str | None  # the arm whose training MACs all others have; None where steps are equal
    key: records.EvaluationKey | None  # of one record, None where nothing was measured yet
    varied: frozenset[str]  # fields of the key that the grid itself varies
    table: pd.DataFrame
    folders: dict[str, RunDir]  # run id -> folder

    @property
    def arms(self) -> list[str]:
        return list(self.levels)

    @property
    def has_fid(self) -> bool:
        return self.key is not None and "fid" in self.key.metrics

    @property
    def run_ids(self) -> list[str]:
        return list(self.table.run_id.unique())

    @property
    def done(self) -> pd.DataFrame:
        return self.table[self.table.state == "done"]


def manifests(runs: Path, grid: str | None, base: str | None) -> list[Path]:
    """The manifests below `runs` that match."""
    contents = {path: read_json(path) for path in newest(runs)}
    return [p for p, c in contents.items() if grid in (None, c["grid"]) and base in (None, c["base"])]


def load(manifest: Path, runs: Path) -> GridResults:
    """All rows of a manifest; UserError where its records do not share one evaluation key."""
    asked = read_json(manifest)
    rows: list[dict[str, Any]] = []
    keys: dict[str, records.EvaluationKey] = {}
    of_control = next((e["milestones"] for e in asked["runs"] if e["arm"] == asked["control"]), None)
    for entry in asked["runs"]:
        folder = RunDir(runs / entry["run_id"])
        for at, step in zip(of_control or entry["milestones"], entry["milestones"], strict=True):
            record = records.read(folder.record(step, entry["key"]))
            row = {name: entry[name] for name in COPIED}
            row |= {"step": step, "at": at, **_state(folder, folder.evaluation(step, entry["key"]), record)}
            if record is not None:
                keys[entry["key"]] = record.key
                row |= record.metrics | record.timing
            rows.append(row)
    varied = frozenset(
        key.removeprefix("evaluation.") for entry in asked["runs"] for key in entry["overrides"] if "evaluation." in key
    )
    key = records.common_key(keys.values(), str(manifest), varied)
    return GridResults(
        grid=asked["grid"],
        base=asked["base"],
        claim=asked["claim"],
        source=asked["source"],
        matched=asked["matched"],
        control=asked["control"],
        levels={entry["arm"]: entry["levels"] for entry in asked["runs"]},
        key=key,
        varied=varied,
        table=pd.DataFrame(rows),
        folders={entry["run_id"]: RunDir(runs / entry["run_id"]) for entry in asked["runs"]},
    )


def _state(run: RunDir, evaluation: WorkDir, record: records.Record | None) -> dict[str, str]:
    if record is not None:
        return {"state": "done", "reason": ""}
    for said in (run.state(), evaluation.state()):
        if said.get("phase") in ("failed", "diverged"):
            return {"state": said["phase"], "reason": said["reason"]}
    return {"state": "cancelled" if run.cancelled else "missing", "reason": ""}
