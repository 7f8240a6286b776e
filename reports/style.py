"""The look that all figures share, and their files. No display is needed."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.figure import Figure

sns.set_theme(context="paper", style="whitegrid", palette="colorblind", rc={"figure.dpi": 160, "axes.titlesize": 9})


def subplots(rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """Return a new figure and its axes, as `matplotlib.pyplot.subplots` does."""
    return plt.subplots(rows, columns, **options)


def save(figure: Figure, path: Path) -> None:
    """Write the figure to a file, and close it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)
