"""What reports show of the paper: its curves, its contradictions, its Figure 3."""

from pathlib import Path

import numpy as np
import pytest

from ablations.grid.arms import arms
from ablations.grid.reading import load as load_grid
from diffussm.config import resolve
from diffussm.cost.closed_form import attention_products, forward_macs
from reports.paper import figure_3 as paper
from reports.paper import published as reported


def test_the_papers_curves_and_their_contradictions() -> None:
    right = reported.curves("hourglass_vs_patch")
    assert right is not None
    assert set(right.arm) == {"M = 2, P = 1", "M = 1, P = 2"}
    notes = reported.notes("hourglass_vs_patch")
    assert "reads 75.5 in the left panel and 81.0 in the right one" in notes[0]
    assert "2.2, 6.9, 7.4, 3.0, 4.2: not steadily" in notes[1]
    s_curves = reported.curves("model_scale")
    assert s_curves is not None
    assert set(s_curves.arm) == {"S", "L", "XL"}
    assert len(reported.notes("model_scale")) == 1
    assert reported.curves("direction") is None


def test_arms_of_reported_curves_are_arms_of_the_grid() -> None:
    for name, (_, arms_of_curves) in reported.CURVES.items():
        assert set(arms_of_curves.values()) <= {arm.name for arm in arms(load_grid(name))}


def test_figure_3(tmp_path: Path) -> None:
    """XL at 256 px: DiT's own 118.64 G; 295.6 G of dense products and 4.1 G of S4D. Attention is quadratic in L."""
    paths = paper.report(tmp_path)
    assert [path.name for path in paths] == ["figure_3.md", "figure_3.png"]
    costs = paper.figure_3().set_index(["model", "resolution"])
    assert costs.loc[("DiT-XL/2", 256), "macs_per_call"] / 1e9 == pytest.approx(118.64, rel=0.002)
    assert costs.loc[("DiffuSSM-XL, M = 2", 256), "mixer"] / 1e9 == pytest.approx(4.1, abs=0.05)
    assert costs.loc[("DiffuSSM-XL with attention, M = 2", 256), "attention_products"] == 29 * 2 * 1152 * 1024**2
    reported_macs = paper.reported_macs().set_index(["name", "resolution"]).macs_per_call / 1e9
    assert reported_macs["DiffuSSM-XL, reported total / images", 256] == pytest.approx(280.3, abs=0.1)
    assert reported_macs["DiffuSSM-XL, reported total / images", 512] == pytest.approx(1066.2, abs=0.1)


def test_growth_with_length() -> None:
    """Fitted exponents in L over 256 .. 16384: 2 for attention's products, and a little over 1 for S4D because of a
    logarithm."""
    lengths = [2**k for k in range(8, 15)]
    configs = [resolve("imagenet256", {"model.image_size": round(n**0.5)}) for n in lengths if round(n**0.5) ** 2 == n]
    tokens = np.log([c.model.length for c in configs])
    assert np.polyfit(tokens, np.log([attention_products(c.model) for c in configs]), 1)[0] == pytest.approx(
        2, abs=1e-9
    )
    mixer = [forward_macs(c).mixer for c in configs]
    assert np.polyfit(tokens, np.log(np.asarray(mixer, dtype=float)), 1)[0] == pytest.approx(1.11, abs=0.02)
