"""The paper's reported numbers, and their contradictions."""

from pathlib import Path

import pandas as pd

from reports import markdown as md

PUBLISHED = Path(__file__).parents[1] / "published"
WHERE = "digitised from its Figure 6; ImageNet 256, about 1 % reading error"

CURVES = {  # grid -> panel of the paper's Figure 6, and its curves as arms of the grid
    "hourglass_vs_patch": ("6-right", {"DiffuSSM-XL M=2": "M = 2, P = 1", "DiffuSSM-XL P=2": "M = 1, P = 2"}),
    "model_scale": ("6-left", {"DiffuSSM-S": "S", "DiffuSSM-L": "L", "DiffuSSM-XL": "XL"}),
}


def curves(grid: str) -> pd.DataFrame | None:
    """Return a table of curve, step, fid and the corresponding arm of the grid; None if the paper has no such
    figure."""
    if grid not in CURVES:
        return None
    panel, arms = CURVES[grid]
    reported = _figure_6()
    return reported[reported.figure == panel].assign(arm=lambda table: table.curve.map(arms))


def markdown(grid: str) -> str:
    """Return the curves as a table with a row per step and a column per curve."""
    table = curves(grid)
    assert table is not None
    wide = table.pivot(index="step", columns="curve", values="fid")[list(dict.fromkeys(table.curve))]
    return md.table(wide.reset_index())


def notes(grid: str) -> list[str]:
    """Return sentences about contradictions in the figure that the grid reproduces, computed from the numbers."""
    reported = _figure_6().set_index(["figure", "curve", "step"]).fid.sort_index()
    first = int(reported.loc["6-right"].index.get_level_values("step").min())
    left, right = reported["6-left", "DiffuSSM-XL", first], reported["6-right", "DiffuSSM-XL M=2", first]
    out = [f"The same model (XL, M = 2) at step {first} reads {left} in the left panel and {right} in the right one."]
    if grid == "hourglass_vs_patch":
        gaps = reported.loc["6-right", "DiffuSSM-XL P=2"] - reported.loc["6-right", "DiffuSSM-XL M=2"]
        steady = bool((gaps.diff().dropna() > 0).all())
        shown = ", ".join(f"{gap:.1f}" for gap in gaps)
        out.append(
            f"The text says that the gap widens; the figure's gaps are {shown}: {'' if steady else 'not '}steadily."
        )
    return out


def _figure_6() -> pd.DataFrame:
    return pd.read_csv(PUBLISHED / "fid_over_steps.csv")
