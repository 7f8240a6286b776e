"""The speed-up of DiffuSSM over DiT without patching, in multiply-adds and in seconds."""

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from reports import markdown as md
from reports.bench import figures, formatting, missing
from reports.bench.page import Page
from reports.bench.rows import TIMED
from reports.bench.stored import Run

OURS, THEIRS = "DiffuSSM", "DiT"


def page(run: Run) -> Page | None:
    """Return the page on speed-ups (stored as lead.md, its former name); None if no DiffuSSM was timed together with a
    DiT."""
    table = speedups(run.timings, run.ratios)
    if table.empty:
        return None
    models = run.timings[run.timings.name.isin([*table.ours, *table.theirs])]
    about = run.about(models[models.status == TIMED])
    text = (
        "# Speed-up of DiffuSSM over DiT without patching\n\n"
        "DiT's multiply-adds over DiffuSSM's (the headline count, which does not depend on the backend of S4D), and "
        "DiT's seconds over DiffuSSM's, measured in interleaved rounds (median with its 95 % interval). Below 1, DiT "
        "is faster. "
        f"{about}.\n\n{missing.bullets(models)}{md.table(_shown(table))}"
    )
    return Page("lead", text, {"lead": table}, figures.speedups(table, [missing.summary(models), about]))


def speedups(timings: pd.DataFrame, ratios: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each ratio between a DiffuSSM and a DiT, whichever of them is the numerator.

    macs_lead: MACs of DiT over those of DiffuSSM, NaN if either is unknown; seconds_lead: the same for seconds, with
    seconds_low and seconds_high.
    """
    rows = []
    for ratio in ratios.to_dict("records"):
        if OURS in ratio["of"] and THEIRS in ratio["to"]:
            ours, theirs, seconds = ratio["of"], ratio["to"], [1 / ratio[end] for end in ("ratio", "high", "low")]
        elif THEIRS in ratio["of"] and OURS in ratio["to"]:
            ours, theirs, seconds = ratio["to"], ratio["of"], [ratio[end] for end in ("ratio", "low", "high")]
        else:
            continue
        macs = {name: _macs(timings, ratio, name) for name in (ours, theirs)}
        rows.append(
            {
                "pairing": f"{ours} and {theirs}",
                "group": ratio["group"],
                "ours": ours,
                "theirs": theirs,
                "macs": macs[ours],
                "macs_of_theirs": macs[theirs],
                "macs_lead": macs[theirs] / macs[ours],
                **dict(zip(("seconds_lead", "seconds_low", "seconds_high"), seconds, strict=True)),
                "n": ratio["n"],
            }
        )
    return pd.DataFrame(rows)


def _macs(timings: pd.DataFrame, ratio: Mapping[Hashable, Any], subject: str) -> float:
    """Return the MACs of the subject in the group and pass of the ratio."""
    same = timings[(timings.status == TIMED) & (timings.group == ratio["group"]) & (timings["pass"] == ratio["pass"])]
    found = same[same.subject == subject].headline_macs.dropna()
    return float(found.iloc[0]) if len(found) else float("nan")


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "pairing": table.pairing,
            "timed as": table.group,
            "DiT's MACs over DiffuSSM's": formatting.each(table.macs_lead, ".2f"),
            "DiT's seconds over DiffuSSM's": formatting.each(table.seconds_lead, ".2f"),
            "95 %": formatting.intervals(table.seconds_low, table.seconds_high, ".2f"),
            "rounds": table.n,
        }
    )
