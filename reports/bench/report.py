"""The report on stored benchmark runs: pages in a folder for each scale and device."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from reports import markdown as md
from reports import style
from reports.bench import lengths, overhead, parts, roofline, speedup, suites, timing
from reports.bench.page import Page
from reports.bench.stored import Run, read

RULE = (
    "Each page shows the newest stored run of its scale and device that has the data; the page on lengths prefers the "
    "newest run with S4D and attention at two lengths each."
)
PAGES: tuple[Callable[[Run], Page | None], ...] = (
    lengths.page,
    parts.page,
    speedup.page,
    overhead.page,
    *(partial(suites.page, suite=suite) for suite in suites.SUITES),
    roofline.page,
    timing.page,
)
PREFERRED: dict[Callable[[Run], Page | None], Callable[[Run], bool]] = {lengths.page: lengths.compares}


def report(stored: Path, out: Path) -> list[Path]:
    """Write every page to `out`/<scale>-<device>, and bench.md, which lists them; returns the files to look at, none
    where no run is stored."""
    runs, skipped = read(stored)
    if not runs and not skipped:
        return []
    text, written = f"# Benchmarks\n\n{RULE}\n", []
    for folder in sorted({_folder(run) for run in runs}):
        text += f"\n## {folder}\n\n"
        for page, run in _pages([run for run in runs if _folder(run) == folder]):
            written += page.write(out / folder)
            text += f"- [{page.title}]({folder}/{page.name}.md), from {run.path.name}\n"
    if skipped:
        text += "\nSkipped files:\n\n" + md.bullets(skipped)
    style.save_text(text, out / "bench.md")
    return [out / "bench.md", *written]


def _folder(run: Run) -> str:
    return f"{run.scale}-{run.device}"


def _pages(newest_first: Iterable[Run]) -> Iterable[tuple[Page, Run]]:
    """Return every page that can be made, with the run that it shows."""
    for make in PAGES:
        preferred = PREFERRED.get(make)
        for run in sorted(newest_first, key=preferred, reverse=True) if preferred else newest_first:
            page = make(run)
            if page is not None:
                yield page, run
                break
