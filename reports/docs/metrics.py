"""The page on the metrics and their intervals: docs/metrics.md, written by `make dictionary`."""

import math
from pathlib import Path

import pandas as pd

from diffussm.metric import Metric
from diffussm.metric_table import METRICS
from reports import markdown as md

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"

HEAD = """# Metrics

Written by `make dictionary` from `diffussm/metric_table.py`. These are the names that `evaluation.metrics` may have.
The digits and photographs have the same metrics, on the layers of their small CNNs instead of Inception's.
A value outside those that a metric can have is an error and becomes no record. Only where rounding alone may have taken
it there (a Frechet distance below zero by up to a millionth of the variances), the nearest possible value is recorded.
"""

INTERVALS = """## Intervals

The 95 % interval of each metric over samples, and how often such intervals held the true value in 300 to 500
simulations each (slow tests in `tests/metrics/`). The reference is held fixed unless the method says otherwise.
Where a metric depends on several samples jointly, the jackknife overstates its spread: the interval may be too wide,
but never too narrow.
"""


RELIABILITY = """## Few samples

A metric is measured from as few samples as it is defined for, and marked † in tables and figures, with the reason,
where there are fewer than these. "Simulated" are two sets of real digits, and one of them with noise added
(`tests/metrics/test_reliability.py`).
"""


def page() -> str:
    rows = (_meaning, _interval, _reliability)
    meanings, intervals, least = (pd.DataFrame([row(m) for m in METRICS.values()]) for row in rows)
    page = f"{HEAD}\n{md.table(meanings)}\n{INTERVALS}\n{md.table(intervals)}"
    return f"{page}\n{RELIABILITY}\n{md.table(least)}"


def _reliability(metric: Metric) -> dict[str, str]:
    least = [f"{metric.reliable_samples:,}"] if metric.reliable_samples > 1 else []
    layer = {"logits": "class"}.get(metric.layer, "feature")
    least += [f"{metric.samples_per_feature:g} per {layer}"] if metric.samples_per_feature else []
    least += [f"{metric.samples_per_image:g} per image of the reference"] if metric.samples_per_image else []
    return {"metric": metric.title, "reliable from n": ", ".join(least), "what fewer give": metric.unreliable}


def _meaning(metric: Metric) -> dict[str, str]:
    return {
        "metric": metric.title,
        "name": f"`{metric.name}`",
        "better": metric.better,
        "values": _range(metric),
        "what it is": metric.meaning,
        "how it is computed": metric.details or "-",
        "source": metric.source,
    }


def _range(metric: Metric) -> str:
    if math.isinf(metric.least):
        return "any"
    return f"from {metric.least:g}" if math.isinf(metric.greatest) else f"{metric.least:g} to {metric.greatest:g}"


def _interval(metric: Metric) -> dict[str, str]:
    return {
        "metric": metric.title,
        "method": metric.interval or "none",
        "coverage of the true value": metric.interval_coverage or "not simulated" if metric.interval else "-",
    }
