"""What launches asked of grids: `runs/grids/<grid>-<base>.<n>.json`. The highest number holds; none is ever changed.

A launch merges what it asks into the newest and adds the next number by a hard link: of two at once one is first, and
the other merges into that.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffussm.errors import UserError, unknown
from diffussm.store.workdir import link_first, read_json, to_json


def newest(runs: Path) -> list[Path]:
    """The manifest that holds of each grid on each base, in order of their names."""
    latest: dict[str, tuple[int, Path]] = {}
    for path in sorted((runs / "grids").glob("[!.]*.json")):
        if match := re.fullmatch(r"(.+)\.(\d+)\.json", path.name):
            latest[match[1]] = max(latest.get(match[1], (0, path)), (int(match[2]), path))
    return [path for _, path in latest.values()]


def read(runs: Path, grid: str | None, base: str | None) -> list[dict[str, Any]]:
    """The manifests of that grid and base (None: of any); UserError if there is none."""
    found = [read_json(path) for path in newest(runs)]
    kept = [m for m in found if grid in (None, m["grid"]) and base in (None, m["base"])]
    if not kept and grid and found:
        raise unknown(f"grids launched in {runs}", grid if base is None else f"{grid} on {base}",
                      {m["grid"] if base is None else f"{m['grid']} on {m['base']}" for m in found})  # fmt: skip
    if not kept:
        raise UserError(f"{runs}: no grid was launched here; give the folder with --runs")
    return kept


def add(runs: Path, grid: str, base: str, merged: Callable[[dict[str, Any] | None], dict[str, Any]]) -> None:
    """Add what `merged` makes of the newest manifest (None: there is none yet), unless it leaves it as it is."""
    stem = f"{grid}-{base}"
    while True:
        old = next((path for path in newest(runs) if path.name.rsplit(".", 2)[0] == stem), None)
        content = None if old is None else read_json(old)
        new = merged(content)
        number = 1 if old is None else int(old.name.split(".")[-2]) + 1
        if new == content or link_first(runs / "grids" / f"{stem}.{number}.json", to_json(new)):
            return
