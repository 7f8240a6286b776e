"""The look that all figures share, and the files of reports. No display is needed."""

import io
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib import font_manager
from matplotlib.figure import Figure

from diffussm.store.writing import write_atomically

sns.set_theme(context="paper", style="whitegrid", palette="colorblind", rc={"figure.dpi": 160, "axes.titlesize": 9})


def subplots(rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """Return a new figure and its axes, as `matplotlib.pyplot.subplots` does."""
    return plt.subplots(rows, columns, **options)


def drawable(text: str) -> str:
    """Return the text with a box for each character that the font lacks or that cannot be printed."""
    known = font_manager.get_font(font_manager.findfont(font_manager.FontProperties())).get_charmap()
    return "".join(c if c.isprintable() and ord(c) in known else "\u25a1" for c in text)


def save(figure: Figure, path: Path) -> None:
    """Write the figure to a file, and close it."""
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix.removeprefix("."), metadata={"Software": None})
    plt.close(figure)
    write_atomically(path, content.getvalue())


def save_table(table: pd.DataFrame, path: Path) -> None:
    """Write the table to a CSV file."""
    write_atomically(path, table.to_csv(index=False).encode())


def save_text(text: str, path: Path) -> None:
    """Write the text to a file."""
    write_atomically(path, text.encode())
