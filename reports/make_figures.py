"""Make every table and figure from the files on disk: `python reports/make_figures.py`."""

import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from a clone

from diffussm.errors import Parser, UserError, exit_code
from diffussm.store import manifests
from reports.bench.report import report as report_benchmarks
from reports.grid import report as grid_report
from reports.grid.results import load
from reports.paper import figure_3 as paper

RUNS, OUT = Path("runs"), Path("reports/out")  # of the working directory


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="make_figures.py", description="Make tables and figures from records.", allow_abbrev=False)
    parser.add_argument("--grid", metavar="NAME", help="only this grid (default: all launched grids)")
    parser.add_argument("--base", metavar="NAME", help="only this base")
    parser.add_argument("--runs", type=Path, default=RUNS, metavar="DIR", help="where run folders are (default: runs)")
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR", help="where to write (default: reports/out)")
    options = parser.parse_args(arguments)

    found = manifests.find(options.runs, options.grid, options.base)
    written: list[Path] = []
    problems = [*found.damaged]
    for manifest in found.manifests:
        try:
            written += grid_report.report(load(manifest, options.runs), options.out)
        except UserError as problem:  # of one grid; the others are reported
            problems.append(problem)
    benchmarks: list[Path] = []
    if not options.grid and not options.base:
        benchmarks = report_benchmarks(options.runs / "bench", options.out / "bench")
        written += benchmarks
    if not found.manifests and not benchmarks and not problems:
        raise _no_runs(options.runs, options.grid, options.base)
    if not options.grid and not options.base:
        written += paper.report(options.out / "paper")
    for path in written:
        print(path)
    if problems:
        raise UserError("; ".join(map(str, problems)))
    return 0


def _no_runs(runs: Path, grid: str | None, base: str | None) -> UserError:
    script = Path(__file__).resolve().parents[1] / "ablations" / "launch.py"
    words = ["python", str(script.relative_to(Path.cwd()) if Path.cwd() in script.parents else script)]
    words += ["--grid", grid or "hourglass_vs_patch", *(["--base", base] if base else [])]
    words += [] if runs == RUNS else ["--runs", str(runs)]
    return UserError(f"{runs.absolute()}: there are no runs; make them with: {shlex.join(words)}")


if __name__ == "__main__":
    sys.exit(exit_code(main))
