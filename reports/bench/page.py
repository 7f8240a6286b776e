"""A page of a report on a stored run: a text, its tables, a figure."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from reports import style


@dataclass(frozen=True)
class Page:
    """A page `name`.md, whose text begins with its title; `tables` maps names of CSV files to their tables."""

    name: str
    text: str
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    figure: Figure | None = None

    @property
    def title(self) -> str:
        return self.text.partition("\n")[0].removeprefix("# ")

    def write(self, folder: Path) -> list[Path]:
        """Write Markdown, CSV and PNG files; returns those to look at."""
        for name, table in self.tables.items():
            style.save_table(table, folder / f"{name}.csv")
        written = [folder / f"{self.name}.md"]
        picture = ""
        if self.figure is not None:
            written.append(folder / f"{self.name}.png")
            style.save(self.figure, written[-1])
            picture = f"![{self.name}]({self.name}.png)\n\n"
        title, rest = self.text.split("\n\n", 1)
        style.save_text(f"{title}\n\n{picture}{rest}", written[0])
        return written
