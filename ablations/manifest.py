"""What a grid asked for, written at launch: `runs/grids/<grid>-<base>.json`.

Reports read it, so that an arm which never ran is a row too: it holds all arms of the grid, whichever were launched.
Launches with the same settings merge (seeds add up); one with other settings starts the manifest anew.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablations.grid import GridFile
from ablations.plan import Planned
from diffussm.rundir import write_whole


def path(runs: Path, grid: str, base: str) -> Path:
    return runs / "grids" / f"{grid}-{base}.json"


def write(
    runs: Path, name: str, grid: GridFile, base: str, settings: Mapping[str, Any], planned: list[Planned]
) -> bool:
    """Write or merge the manifest; True if it replaces one that was made with other settings."""
    where = path(runs, name, base)
    old = json.loads(where.read_text()) if where.exists() else None
    replaces = old is not None and old["settings"] != dict(settings)
    overrides = {p.run.arm.name: p.run.arm.overrides for p in planned}
    kept = [] if old is None or replaces else old["runs"]
    entries = {(e["arm"], e["seed"]): e for e in kept if overrides.get(e["arm"]) == e["overrides"]}
    for p in planned:
        entries[p.run.arm.name, p.run.config.seed] = _entry(p)
    content = {
        "grid": name,
        "base": base,
        "claim": grid.claim,
        "source": grid.source,
        "command": grid.command,
        "matched": list(grid.matched),
        "settings": dict(settings),
        "runs": list(entries.values()),
    }
    write_whole(where, json.dumps(content, indent=1).encode())
    return replaces


def _entry(p: Planned) -> dict[str, Any]:
    assert p.key is not None  # nothing is launched that lacks data
    return {
        "arm": p.run.arm.name,
        "levels": p.run.arm.levels,
        "overrides": p.run.arm.overrides,
        "seed": p.run.config.seed,
        "run_id": p.run.run_id,
        "request": p.request.digest,
        "steps": p.request.steps,
        "milestones": list(p.request.milestones),
        "key": p.key.digest,
        "parameters": p.parameters,
        "macs_per_call": p.macs.total,
    }
