"""Figures by seaborn. Each function draws given tables and returns the figure; nothing is computed here."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MultipleLocator, ScalarFormatter
from numpy.typing import NDArray

sns.set_theme(context="paper", style="whitegrid", palette="colorblind", rc={"figure.dpi": 160, "axes.titlesize": 9})


def fid_over_steps(
    curve: pd.DataFrame,
    arms: list[str],
    name: str,
    floor: float,
    title: str,
    steps: str,
    published: pd.DataFrame | None,
) -> Figure:
    """FID over training steps, log y, one line per arm with its interval; the published curves in a panel of their own.

    curve: arm, step, mean, low, high; floor: FID of real images at the same n; published: curve, step, fid, and the arm
    of ours whose colour the curve takes; steps: what is counted from left to right.
    """
    panels = 1 if published is None else 2
    figure, axes = plt.subplots(1, panels, figsize=(4.2 * panels, 3.6), layout="constrained")
    ours: Axes = np.ravel(axes)[0]
    colours = dict(zip(arms, sns.color_palette(n_colors=len(arms)), strict=True))
    sns.lineplot(curve, x="step", y="mean", hue="arm", hue_order=arms, palette=colours, marker="o", ax=ours)
    bottom = curve["mean"].min() / 4
    for arm, group in curve.groupby("arm"):
        low = group.low.clip(lower=bottom)
        ours.fill_between(group.step, low, group.high, color=colours[str(arm)], alpha=0.15, linewidth=0)
    ours.axhline(floor, color="0.35", linestyle="--", linewidth=1)
    note = f"noise floor {floor:.2f} (real images)"
    ours.text(curve.step.max(), floor * 1.04, note, ha="right", va="bottom", fontsize=7, color="0.35")
    _log_axis(ours, title, name)
    ours.set_xlabel(steps)
    if published is not None:
        theirs: Axes = axes[1]
        their_colours = {row.curve: colours.get(str(row.arm), "0.5") for row in published.itertuples()}
        sns.lineplot(published, x="step", y="fid", hue="curve", palette=their_colours, marker="s", ax=theirs)
        _log_axis(theirs, "reported by the paper (ImageNet 256)", "FID-50K")
        theirs.xaxis.set_major_locator(MultipleLocator(100_000))
        theirs.xaxis.set_major_formatter(lambda step, _: f"{step / 1000:.0f} k")
    return figure


def sample_rows(samples: dict[str, NDArray[np.uint8]], labels: NDArray[np.int64] | None, title: str) -> Figure:
    """A named row of images (N, H, W, C) each; equal columns share noise, and label where there are labels (N,)."""
    count = len(next(iter(samples.values())))
    size = (0.48 * count + 1.1, 0.52 * len(samples) + 0.45)
    figure, axes = plt.subplots(len(samples), count, figsize=size, squeeze=False)
    for row, (name, images) in zip(axes, samples.items(), strict=True):
        for axis, image in zip(row, images, strict=True):
            axis.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    if labels is not None:
        for axis, label in zip(axes[0], labels, strict=True):
            axis.set_title(str(label), fontsize=8, pad=2)
    figure.suptitle(title, fontsize=8)
    figure.tight_layout(pad=0.3, rect=(0, 0, 1, 0.97))
    return figure


def macs_over_resolution(costs: pd.DataFrame, reported: pd.DataFrame) -> Figure:
    """The paper's Figure 3: G MACs of a call on one image against pixels a side, tokens above; both axes log.

    costs: model, resolution, tokens, macs_per_call; reported: name, resolution, macs_per_call.
    """
    figure, axis = plt.subplots(figsize=(5.5, 3.8))
    shown = costs.assign(gmacs=costs.macs_per_call / 1e9)
    sns.lineplot(shown, x="resolution", y="gmacs", hue="model", style="model", marker="o", ax=axis)
    for marker, (name, points) in zip("x+", reported.groupby("name"), strict=True):
        axis.scatter(points.resolution, points.macs_per_call / 1e9, marker=marker, color="black", zorder=5, label=name)
    ticks = sorted(shown.resolution.unique())
    axis.set(xscale="log", yscale="log", xlabel="pixels a side", ylabel="G MACs per image and call")
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.minorticks_off()
    above = axis.secondary_xaxis("top")
    above.set_xlabel("L, latent tokens at patch 1")
    above.set_xticks(ticks, [f"{shown[shown.resolution == tick].tokens.max():,}" for tick in ticks])
    above.minorticks_off()
    axis.legend(title=None, fontsize=7)
    figure.tight_layout()
    return figure


def timing_bars(timing: pd.DataFrame, title: str) -> Figure:
    """Median milliseconds of every benchmark with its quartiles, a panel per group."""
    groups = list(dict.fromkeys(timing.group))
    heights = [(timing.group == group).sum() + 1 for group in groups]
    size = (6.5, 0.24 * sum(heights) + 0.9)
    figure, axes = plt.subplots(len(groups), 1, figsize=size, height_ratios=heights, squeeze=False)
    for axis, group in zip(axes[:, 0], groups, strict=True):
        rows = timing[timing.group == group]
        sns.barplot(rows, x="median_ms", y="name", color=sns.color_palette()[0], ax=axis)
        spread = [rows.median_ms - rows.q1_ms, rows.q3_ms - rows.median_ms]
        axis.errorbar(rows.median_ms, range(len(rows)), xerr=spread, fmt="none", color="0.2", capsize=2, linewidth=1)
        axis.set(title=group, xlabel="", ylabel="")
    axes[-1, 0].set_xlabel("milliseconds (median, quartiles)")
    figure.suptitle(title, fontsize=8)
    figure.tight_layout()
    return figure


def save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


def _log_axis(axis: Axes, title: str, ylabel: str) -> None:
    axis.set(yscale="log", title=title, xlabel="training steps", ylabel=ylabel, xlim=(0, None))
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter(ScalarFormatter())
    axis.minorticks_off()
    axis.legend(title=None, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, frameon=False)
