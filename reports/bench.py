"""The last stored benchmark session as a table and a figure."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reports import figures
from reports import markdown as md


def report(stored: Path, out: Path) -> list[Path]:
    """timing.csv, .md and .png of the newest session in `stored`; nothing where there is none."""
    sessions = sorted(stored.glob("*.json"))
    if not sessions:
        return []
    session = json.loads(sessions[-1].read_text())
    table = pd.DataFrame([_row(benchmark) for benchmark in session["benchmarks"]])
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / "timing.csv", index=False)
    machine = session["machine_info"]
    about = f"{machine['processor']}, {machine['threads']} threads, torch {machine['torch']}"
    if machine["gpu"]:
        about += f", {machine['gpu']}"
    text = f"Timings of {session['datetime'][:19]} on {about}. Medians and quartiles of the rounds.\n\n"
    (out / "timing.md").write_text(text + md.table(_shown(table)))
    figures.save(figures.timing_bars(table, about), out / "timing.png")
    return [out / "timing.md", out / "timing.png"]


def _row(benchmark: dict[str, Any]) -> dict[str, Any]:
    stats = benchmark["stats"]
    ratio = benchmark["extra_info"].get("ratio", {})
    return {
        "group": benchmark["group"],
        "name": benchmark["name"],
        "median_ms": 1e3 * stats["median"],
        "q1_ms": 1e3 * stats["q1"],
        "q3_ms": 1e3 * stats["q3"],
        "rounds": stats["rounds"],
        "ratio_of": ratio.get("of", ""),
        "ratio": ratio.get("median"),
        "ratio_q1": ratio.get("q1"),
        "ratio_q3": ratio.get("q3"),
    }


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    ratios = table[["ratio", "ratio_q1", "ratio_q3"]].to_numpy(dtype=float)
    return pd.DataFrame(
        {
            "benchmark": table.group,
            "of": table.name,
            "median (ms)": table.median_ms.round(2),
            "quartiles (ms)": [f"{r.q1_ms:.2f} to {r.q3_ms:.2f}" for r in table.itertuples()],
            "rounds": table.rounds,
            "ratio, in turns": [
                "" if np.isnan(r) else f"{r:.2f} ({q1:.2f} to {q3:.2f}) of {of}"
                for (r, q1, q3), of in zip(ratios, table.ratio_of, strict=True)
            ],
        }
    )
