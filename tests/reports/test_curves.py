"""Figures of metrics over steps: what lies outside an axis, what a metric cannot be, and bars at one step."""

from collections.abc import Iterator, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import Collection, LineCollection
from numpy.typing import NDArray

from diffussm.metric_table import METRICS
from reports.grid import figures, tables

NAME = "FID (x, n = 1)"
Row = tuple[str, str, int, float, float, float, int, float, float]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


def curve(rows: Sequence[Row]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["metric", *tables.CURVE])


def fid(low: float, high: float, floor: float, n: int = 2) -> Axes:
    """The axis of an FID of 20 with an interval over n seeds at its last step."""
    none = (np.nan, np.nan)
    drawn = curve([("fid", "A", 1, 40.0, 35.0, 45.0, 3, *none), ("fid", "A", 2, 20.0, low, high, n, *none)])
    (axis,) = figures.fid_over_steps(drawn, ["A"], NAME, floor, "a title", "step", None).axes
    return axis


def texts_inside(axis: Axes) -> list[str]:
    axis.figure.draw_without_rendering()
    box = axis.bbox
    inside = []
    for text in axis.texts:
        own = text.get_window_extent()
        assert box.x0 <= own.x0 < own.x1 <= box.x1
        assert box.y0 <= own.y0 < own.y1 <= box.y1
        inside.append(text.get_text())
    return inside


def drawn_in(axis: Axes) -> list[Collection]:
    """The bands and bars of an axis."""
    return [found for found in axis.collections if found.get_paths()]


def heights(found: Collection) -> NDArray[np.float64]:
    return np.concatenate([path.vertices[:, 1] for path in found.get_paths()])


def test_a_noise_floor_below_the_axis_is_named_inside() -> None:
    axis = fid(-400.0, 440.0, 0.26)
    assert axis.get_ylim()[0] > 0.26
    assert "noise floor 0.26 (real images), below the axis" in texts_inside(axis)


def test_a_noise_floor_in_the_axis_is_a_line() -> None:
    axis = fid(15.0, 25.0, 0.26, n=3)
    assert axis.get_ylim()[0] < 0.26
    assert "noise floor 0.26 (real images)" in texts_inside(axis)


def test_an_interval_that_reaches_below_zero_leaves_a_logarithmic_axis() -> None:
    axis = fid(-400.0, 440.0, 0.26)
    (band,) = (found for found in drawn_in(axis) if not isinstance(found, LineCollection))
    assert heights(band).min() < axis.get_ylim()[0]


@pytest.mark.parametrize("metric", ["precision", "label_accuracy", "sfid"])
def test_bands_and_bars_end_where_the_metric_does(metric: str) -> None:
    rows: list[Row] = [
        (metric, "A", 1, 0.9, 0.5, 1.9, 3, 0.8, 1.2),
        (metric, "A", 2, 0.1, -0.7, 0.9, 3, -0.2, 0.3),
        (metric, "A", 3, 0.2, -9.0, 9.9, 2, 0.1, 0.3),
    ]
    drawn, names = curve(rows), {metric: f"{metric} (x, n = 1)"}
    (axis,) = figures.metrics_over_steps(drawn, ["A"], names, "a title", "step").axes
    least, greatest = METRICS[metric].least, METRICS[metric].greatest
    assert len(drawn_in(axis)) == 2
    for found in drawn_in(axis):
        assert least <= heights(found).min() <= heights(found).max() <= greatest
    low, high = axis.get_ylim()
    assert low >= least - 0.1 * (high - low)
    assert high <= greatest + 0.1 * (high - low)


def test_bars_at_one_step_do_not_hide_each_other() -> None:
    rows: list[Row] = [
        ("kid", arm, step, 1.0, np.nan, np.nan, 1, 0.9, 1.1) for arm in "ABC" for step in (300, 600, 1200)
    ]
    (axis,) = figures.metrics_over_steps(curve(rows), list("ABC"), {"kid": "KID (x, n = 1)"}, "a title", "step").axes
    bars = [found for found in drawn_in(axis) if isinstance(found, LineCollection)]
    places = np.array([[path.vertices[0, 0] for path in found.get_paths()] for found in bars])
    assert places.shape == (3, 3)
    assert (np.diff(places, axis=0) > 5).all()
    np.testing.assert_allclose(places.mean(0), [300, 600, 1200])
    assert (abs(places - [300, 600, 1200]) < 50).all()


@pytest.mark.parametrize(("panels", "shape"), [(1, (1, 1)), (3, (1, 3)), (4, (2, 2)), (5, (2, 3)), (7, (3, 3))])
def test_panels_leave_little_room_empty(panels: int, shape: tuple[int, int]) -> None:
    metrics = list(METRICS)[1 : panels + 1]
    rows: list[Row] = [(name, "A", 1, 1.0, np.nan, np.nan, 1, 0.9, 1.1) for name in metrics]
    figure = figures.metrics_over_steps(curve(rows), ["A"], {name: f"{name} (x)" for name in metrics}, "t", "step")
    assert len(figure.axes) == panels
    assert figure.axes[0].get_gridspec().get_geometry() == shape
