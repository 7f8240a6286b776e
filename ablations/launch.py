"""Launch a grid: `python ablations/launch.py --grid NAME`. Runs that are done are skipped; started ones go on."""

import argparse
import fnmatch
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from a clone

from diffussm.config import bases, parse_value, split_key
from diffussm.errors import Parser, UserError, exit_code, unknown

if TYPE_CHECKING:
    from ablations.plan import Planned

EXECUTORS = ("local", "debug")
RUNS = Path("runs")
DESCRIPTION = "Train and evaluate every run of a grid. What is done is skipped, what was interrupted goes on."


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="launch.py", description=DESCRIPTION, allow_abbrev=False)
    add = parser.add_argument
    add("--grid", required=True, metavar="NAME", help="a grid of ablations/grids, or the path of a .toml file")
    add("--base", metavar="NAME", help="the recipe to vary (default: the grid's own)")
    add("--seeds", type=_positive, metavar="N", help="seeds 0 .. N-1 per arm (default: the grid's own)")
    add("--executor", default="local", metavar="|".join(EXECUTORS), help="local: a pool of worker processes (default); "
        "debug: in this process, one run at a time, the first failure ends it")  # fmt: skip
    add("--jobs", type=_positive, metavar="K", help="workers (default: cores / threads of the base)")
    add("--only", metavar="PATTERN", help="only arms or run ids that match, as in 'M = 2*'")
    add("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="override a config key in every arm, as in training.steps=100; may be repeated")  # fmt: skip
    add("--runs", type=Path, default=RUNS, metavar="DIR", help="where run folders lie (default: runs)")
    add("--dry-run", action="store_true", help="print every run with its cost and state, and stop")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.executor not in EXECUTORS:
        raise unknown("--executor", options.executor, EXECUTORS)
    from ablations import manifest
    from ablations import plan as planning
    from ablations.grid import expand, load
    from diffussm.rundir import RunDir

    grid = load(options.grid)
    base = options.base or grid.base
    if base not in bases():
        raise unknown("base", base, bases())
    settings = _settings(options.settings)
    runs = expand(grid, base, options.seeds or grid.seeds, settings)
    whole = planning.plan(runs, options.runs)
    planned = [p for p in whole if not options.only or _matches(p, options.only)]
    if not planned:
        raise UserError(f"--only {options.only!r}: no arm or run id matches")
    warnings = planning.broken_matches(grid.matched, whole)
    if options.dry_run:
        _print_plan(planned, warnings)
        return 0
    _refuse_lacking(whole)  # the manifest holds all arms
    _refuse_lost(planned)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    for p in planned:
        RunDir.create(options.runs, p.run.config).add_request(p.request)
    if manifest.write(options.runs, Path(options.grid).stem, grid, base, settings, whole):
        print("Other settings than at the last launch: reports on this grid now show these runs only.")
    return _launch(options, base, planned)


def _matches(p: "Planned", pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in (p.run.arm.name, p.run.run_id))


def _launch(options: argparse.Namespace, base: str, planned: "list[Planned]") -> int:
    from ablations.executors.outcome import Outcome

    console = _console()
    # So that no long one is left for the end; those of unknown cost may be long.
    longest_first = sorted(planned, key=lambda p: p.macs.total or float("inf"), reverse=True)
    todo: dict[Path, list[Planned]] = {}
    for p in longest_first:
        if not p.done:
            todo.setdefault(p.folder.path, []).append(p)
    runs = len({p.folder.path for p in planned})
    if not todo:
        console.print(f"Nothing left to train: all {runs} runs of {options.grid} on {base} are done.")
        return 0
    console.print(f"{options.grid} on {base}: {runs} runs, {runs - len(todo)} done before.")

    from ablations.progress import Display

    names = {path: f"{_arms(ps)}, seed {ps[0].run.config.seed}" for path, ps in todo.items()}
    failures: dict[Path, str] = {}
    with Display(names, console) as display:

        def finished(folder: Path, outcome: Outcome) -> None:
            if outcome.kind != "done":
                failures[folder] = f"{outcome.kind}: {outcome.reason}"
            display.finished(folder, outcome.kind + (f": {outcome.reason}" if outcome.reason else ""))

        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the workers are stopped in order
        try:
            _execute(options, list(todo), planned, finished, display.poll)
        except KeyboardInterrupt:
            display.line("Interrupted. The same command goes on from the last checkpoints.")
            return 130
    for folder, words in failures.items():
        print(f"{folder.name}: {words}", file=sys.stderr)
    if not failures:
        where = "" if options.runs == RUNS else f" --runs {shlex.quote(str(options.runs))}"
        grid = Path(options.grid).stem
        console.print(f"All {runs} runs are done. Next: python reports/make_figures.py --grid {grid}{where}")
    return 1 if failures else 0


def _execute(
    options: argparse.Namespace, folders: list[Path], planned: "list[Planned]", finished: Any, poll: Any
) -> None:
    if options.executor == "debug":
        from ablations.executors import debug

        debug.execute(folders, finished)
        return
    from ablations.executors import local
    from diffussm.machine import usable_cores

    threads = planned[0].run.config.training.threads or usable_cores()
    workers = options.jobs or max(1, usable_cores() // threads)
    local.execute(folders, workers, threads, finished, poll)


def _arms(planned: "list[Planned]") -> str:
    """The arms that share a run: the first, and how many more."""
    more = f" and {len(planned) - 1} more" if len(planned) > 1 else ""
    return planned[0].run.arm.name + more


def _settings(given: list[str]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for setting in given:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UserError(f"--set {setting}: give it as section.field=value")
        split_key(key)
        if key in out:
            raise UserError(f"--set {key}: given twice")
        out[key] = parse_value(value)
    return out


def _refuse_lacking(planned: "list[Planned]") -> None:
    """Stop before anything is written where data is not there."""
    for p in planned:
        if p.lacks:
            raise UserError(p.lacks)


def _refuse_lost(planned: "list[Planned]") -> None:
    """Stop before anything is written where a milestone cannot be had any more."""
    for p in planned:
        if lost := not p.done and p.folder.lost_milestones(p.request):
            trained = p.folder.trained_steps()
            raise UserError(
                f"training.milestones: {p.run.run_id} is trained to step {trained} and kept no weights of step "
                f"{lost[0]}: ask for kept milestones or later ones, or give another --runs folder"
            )


def _print_plan(planned: "list[Planned]", warnings: list[str]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from ablations.plan import summary

    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for heading in ("arm", "seed", "run", "parameters", "MACs per image and call", "steps", "state"):
        right = heading in ("seed", "parameters", "MACs per image and call", "steps")
        table.add_column(heading, justify="right" if right else "left", no_wrap=heading != "state")
    for p in planned:
        config, steps = p.run.config, str(p.request.steps)
        cost = (f"{p.parameters:,}", "unknown" if p.macs.total is None else f"{p.macs.total:,}")
        cells = (p.run.arm.name, str(config.seed), p.run.run_id, *cost, steps, p.state)
        table.add_row(*(Text(cell) for cell in cells))  # not markup: a name may hold brackets
    console = _console(width=max(160, _console().width))
    console.print(table)
    console.print(summary(planned))
    for lacks in dict.fromkeys(p.lacks for p in planned if p.lacks):
        console.print(f"To run this: {lacks}.")
    for warning in warnings:
        console.print(f"warning: {warning}")


def _console(width: int | None = None) -> Any:
    from rich.console import Console

    return Console(width=width, highlight=False, soft_wrap=True, markup=False)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


if __name__ == "__main__":
    sys.exit(exit_code(main))
