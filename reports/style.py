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
from matplotlib.text import Text

from diffussm.host import fonts
from diffussm.store.writing import write_atomically

sns.set_theme(context="paper", style="whitegrid", palette="colorblind", rc={"figure.dpi": 160, "axes.titlesize": 9})

_registered: dict[Path, str] = {}  # installed fonts of other scripts, with their family


def subplots(rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """Return a new figure and its axes, as `matplotlib.pyplot.subplots` does."""
    return plt.subplots(rows, columns, **options)


def drawable(text: str) -> str:
    """Return the lines of text with escapes for what no font on this machine has. The fonts that they need are made
    known to Matplotlib."""
    lines = [fonts.drawable(line) for line in text.split("\n")]
    for file in {line.file for line in lines if line.file} - {fonts.dejavu_sans(), *_registered}:
        font_manager.fontManager.addfont(file)
        _registered[file] = font_manager.FontProperties(fname=file).get_name()
    return "\n".join(line.text for line in lines)


def families() -> list[str]:
    """Return the families of fonts that draw a text: each character is of the first that has it."""
    return ["sans-serif", "DejaVu Sans", *_registered.values()]


def save(figure: Figure, path: Path) -> None:
    """Write the figure to a file, and close it. Its texts may be in any script."""
    for text in figure.findobj(Text):
        if not (shown := text.get_text()).isascii():
            text.set_text(drawable(shown))
            text.set_fontfamily(families())
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
