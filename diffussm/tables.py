"""Tables and quantities as people read them: plain text, Markdown, counts with a prefix, durations."""

import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence


def aligned(rows: Sequence[Mapping[str, object]], left_aligned: Collection[str] = ()) -> str:
    """Return the rows in columns under their keys and a rule; columns in `left_aligned` to the left, others to the
    right."""
    if not rows:
        return ""
    columns = []
    for name in rows[0]:
        cells = [name, *(str(row[name]) for row in rows)]
        width = max(map(display_width, cells))
        columns.append([padded(cell, width, is_text=name in left_aligned) for cell in cells])
    lines = ["  ".join(cells).rstrip() for cells in zip(*columns, strict=True)]
    return "\n".join([lines[0], "-" * max(map(display_width, lines)), *lines[1:]])


def display_width(text: str) -> int:
    """Return the number of columns that the text takes on a terminal: two for each wide character, such as a Chinese
    one, and none for a mark that combines with the character before it."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))


def padded(text: str, width: int, is_text: bool = True) -> str:
    """Return the text with as many spaces as make it `width` columns wide: after it if it is text, else before it."""
    spaces = " " * (width - display_width(text))
    return text + spaces if is_text else spaces + text


def markdown(headings: Sequence[str], rows: Iterable[Sequence[object]], right_aligned: Collection[int] = ()) -> str:
    """Return a table as GitHub renders it; columns whose position is in `right_aligned` to the right."""
    rules = ("---:" if i in right_aligned else "---" for i in range(len(headings)))
    lines = [f"| {' | '.join(headings)} |", f"|{'|'.join(rules)}|"]
    for row in rows:
        cells = (str(cell).replace("|", "\\|") for cell in row)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def format_count(number: float | None) -> str:
    """Return a number with its prefix: 118.64 G."""
    if number is None:
        return "unknown"
    for prefix, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.999995 * size:  # what two decimals round up to it
            return f"{number / size:,.2f} {prefix}"
    return f"{number:g}"


def plural(number: int, noun: str) -> str:
    """Return a number of things: 1 run, 2 runs."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def format_duration(seconds: float | None) -> str:
    """Seconds in the two units that matter: 3 d 4 h, 1 h 05 min, 2 min 07 s, 12 s."""
    if seconds is None:
        return "unknown"
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days:,} d {h} h"
    return f"{h} h {m:02d} min" if h else f"{m} min {s:02d} s" if m else f"{s} s"
