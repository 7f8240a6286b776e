"""What launches asked of grids: `runs/grids/<grid>-<base>.<n>.json`. The highest number holds; none is ever changed.

A launch merges what it asks into the newest and adds the next number by a hard link: of two at once one is first, and
the other merges into that.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffussm.store.workdir import link_first, read_json, to_json


def newest(runs: Path) -> list[Path]:
    """The manifest that holds of each grid on each base, in order of their names."""
    latest: dict[str, tuple[int, Path]] = {}
    for path in sorted((runs / "grids").glob("[!.]*.json")):
        if match := re.fullmatch(r"(.+)\.(\d+)\.json", path.name):
            latest[match[1]] = max(latest.get(match[1], (0, path)), (int(match[2]), path))
    return [path for _, path in latest.values()]


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
