"""What was asked of a grid and what came of it, as one table: a row for every run and milestone, missing ones too."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from diffussm import records
from diffussm.errors import UserError
from diffussm.rundir import RunDir


@dataclass(frozen=True)
class GridResults:
    """One grid on one base.

    `table` has a row per (arm, seed, milestone): arm, seed, run_id, step, steps, state (done | missing | failed),
    reason, parameters, macs_per_call, and where done the metrics and timings of the record.
    """

    grid: str
    base: str
    claim: str
    source: str
    command: str
    arms: list[str]
    key: records.EvaluationKey | None  # None where nothing was measured yet
    table: pd.DataFrame
    folders: dict[str, RunDir]  # run id -> folder

    @property
    def run_ids(self) -> list[str]:
        return list(self.table.run_id.unique())

    @property
    def done(self) -> pd.DataFrame:
        return self.table[self.table.state == "done"]


def manifests(runs: Path, grid: str | None, base: str | None) -> list[Path]:
    """The manifests below `runs` that match."""
    paths = sorted((runs / "grids").glob("[!.]*.json"))
    contents = {path: json.loads(path.read_text()) for path in paths}
    return [p for p, c in contents.items() if grid in (None, c["grid"]) and base in (None, c["base"])]


def load(manifest: Path, runs: Path) -> GridResults:
    """All rows of a manifest; UserError where its records do not share one evaluation key."""
    asked = json.loads(manifest.read_text())
    rows: list[dict[str, Any]] = []
    keys: dict[str, records.EvaluationKey] = {}
    for entry in asked["runs"]:
        folder = RunDir(runs / entry["run_id"])
        for step in entry["milestones"]:
            record = records.read(folder.record(step, entry["key"]))
            row = {name: entry[name] for name in ("arm", "seed", "run_id", "steps", "parameters", "macs_per_call")}
            row |= {"step": step, **_state(folder, record)}
            if record is not None:
                keys[entry["key"]] = record.key
                row |= record.metrics | record.timing
            rows.append(row)
    if len(keys) > 1:
        raise UserError(f"{manifest}: {_difference(list(keys.values()))} differ between its records: not comparable")
    return GridResults(
        grid=asked["grid"],
        base=asked["base"],
        claim=asked["claim"],
        source=asked["source"],
        command=asked["command"],
        arms=list(dict.fromkeys(entry["arm"] for entry in asked["runs"])),
        key=next(iter(keys.values()), None),
        table=pd.DataFrame(rows),
        folders={entry["run_id"]: RunDir(runs / entry["run_id"]) for entry in asked["runs"]},
    )


def _state(folder: RunDir, record: records.Record | None) -> dict[str, str]:
    if record is not None:
        return {"state": "done", "reason": ""}
    said = folder.state()
    if said.get("phase") == "failed":
        return {"state": "failed", "reason": said["reason"]}
    return {"state": "missing", "reason": ""}


def _difference(keys: list[records.EvaluationKey]) -> str:
    dumped = [key.model_dump() for key in keys]
    return ", ".join(name for name in dumped[0] if any(d[name] != dumped[0][name] for d in dumped))
