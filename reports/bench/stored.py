"""Stored benchmark runs, and messages about files that cannot be read."""

import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from diffussm.store.names import is_name
from reports.bench import rows


@dataclass(frozen=True)
class Run:
    """A stored run: `content` is the JSON of `path`."""

    path: Path
    content: dict[str, Any]

    @property
    def scale(self) -> str:
        return str(self.content["scale"])

    @cached_property
    def device(self) -> str:
        """cuda if any benchmark was timed there, else cpu."""
        on_gpu = any(str(one["extra_info"]["device"]).startswith("cuda") for one in self.content["benchmarks"])
        return "cuda" if on_gpu else "cpu"

    @cached_property
    def timings(self) -> pd.DataFrame:
        """The table of `rows.timings`."""
        return rows.timings(self.content)

    @cached_property
    def ratios(self) -> pd.DataFrame:
        """The table of `rows.ratios`."""
        return rows.ratios(self.content)

    def about(self, timings: pd.DataFrame) -> str:
        """Return one line about the run: machine, threads, version of torch, dtypes of these timings, date."""
        machine, date = self.content["machine_info"], str(self.content["datetime"])[:10]
        gpu = machine["gpu"] if self.device == "cuda" else None
        threads = ", ".join(f"{count}" for count in timings.threads.dropna().unique())
        dtypes = ", ".join(dtype for dtype in timings["dtype"].dropna().unique() if dtype)
        parts = [gpu, machine["processor"], f"{threads} threads", f"torch {machine['torch']}", dtypes, date]
        return ", ".join(part for part in parts if part)


def read(folder: Path) -> tuple[list[Run], list[str]]:
    """Return the runs in a folder, newest first, and a sentence about each file that is skipped: it is damaged, has no
    times, or has an older format."""
    runs, skipped = [], []
    for path in sorted(folder.glob("*.json"), reverse=True):
        try:
            content = json.loads(path.read_text())
        except json.JSONDecodeError:
            skipped.append(f"{path.name} is incomplete: its session was interrupted.")
            continue
        except UnicodeDecodeError:
            content = None
        if not isinstance(content, dict):
            skipped.append(f"{path.name} is not a stored run.")
            continue
        benchmarks = content.get("benchmarks", [])
        if not benchmarks and content.get("without_time"):
            count = Counter(one["status"] for one in content["without_time"])
            skipped.append(f"{path.name} has no times: {', '.join(f'{n} {status}' for status, n in count.items())}.")
        elif "scale" in content and not is_name(str(content["scale"])):
            skipped.append(f"{path.name} has a scale after which no folder can be named.")
        elif "scale" in content and all("suite" in one.get("extra_info", {}) for one in benchmarks):
            runs.append(Run(path, content))
        else:
            skipped.append(f"{path.name} has the format from before suites.")
    return runs, skipped
