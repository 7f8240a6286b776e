"""Launch a grid: `python ablations/launch.py --grid NAME`. Runs that are done are skipped; started ones go on."""

import argparse
import csv
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from a clone

from ablations.options import RUNS, no_match, positive, seeds
from diffussm.errors import Parser, UserError, exit_code, unknown

if TYPE_CHECKING:
    from ablations.estimate import Estimates
    from ablations.outcome import Outcome
    from ablations.plan import Planned
    from ablations.prepare import Asked

EXECUTORS = ("local", "debug")
DESCRIPTION = "Train and evaluate every run of a grid. What is done is skipped, what was interrupted goes on."


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="launch.py", description=DESCRIPTION, allow_abbrev=False)
    add = parser.add_argument
    add("--grid", required=True, metavar="NAME", help="a grid of ablations/grids, or the path of a .toml file")
    add("--base", metavar="NAME", help="the recipe to vary (default: the grid's own)")
    add("--seeds", type=seeds, metavar="N", help="seeds 0 .. N-1 per arm, or which, as in 0,2,5 (default: the grid's)")
    add("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="override a config key in every arm, as in training.steps=100; may be repeated")  # fmt: skip
    add("--only", action="append", default=[], metavar="PATTERN",
        help="only arms or run ids that match, as in 'M = 2*', or a level, as in size=S; may be repeated")  # fmt: skip
    add("--runs", type=Path, default=RUNS, metavar="DIR", help="where run folders lie (default: runs)")
    add("--executor", default="local", metavar="|".join(EXECUTORS), help="local: a pool of worker processes (default); "
        "debug: in this process, one run at a time, the first failure ends it")  # fmt: skip
    add("--pdb", action="store_true", help="with --executor debug: open the debugger where a run fails")
    add("--jobs", type=positive, metavar="K", help="workers (default: one for each GPU, or cores / threads of a run)")
    add("--replay", action="store_true",
        help="train again to milestones behind a run's checkpoint whose weights were not kept")  # fmt: skip
    add("--dry-run", action="store_true", help="print every run with its cost, state and time, and stop")
    add("--json", action="store_true", help="with --dry-run: as JSON")
    add("--csv", action="store_true", help="with --dry-run: as CSV")
    add("--calibrate", action="store_true", help="measure how long the grid's runs take on this machine, and stop")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.executor not in EXECUTORS:
        raise unknown("--executor", options.executor, EXECUTORS)
    if options.pdb and options.executor != "debug":
        raise UserError("--pdb: goes with --executor debug")
    if (options.json or options.csv) and not options.dry_run:
        raise UserError("--json, --csv: go with --dry-run")
    from ablations.estimate import Estimates, calibration_path
    from ablations.prepare import Asked, selection
    from diffussm.config import parse_settings

    asked = Asked.of(options.grid, options.base, options.seeds, parse_settings(options.settings), options.runs)
    whole = asked.plan()
    meant = selection(options.only)
    planned = [p for p in whole if meant(p.run.arm.name, p.run.arm.levels, p.run.run_id)]
    if not planned:
        raise no_match(options.only)
    if options.calibrate:
        return _calibrate(options, planned)
    estimates = Estimates.load(calibration_path(options.runs), _threads(_slots(options, planned)))
    if options.dry_run:
        _print_plan(options, asked, planned, whole, estimates)
        return 0
    for warning in asked.warnings(whole):
        print(f"warning: {warning}", file=sys.stderr)
    if asked.ask(planned, whole, options.replay):
        print("Other settings than at the last launch: reports on this grid now show these runs only.")
    return _launch(options, asked, planned, estimates)


def _calibrate(options: argparse.Namespace, planned: "list[Planned]") -> int:
    for p in planned:
        if p.arm.lacks:
            raise UserError(p.arm.lacks)
    from ablations.calibrate import calibrate  # imports torch

    console, threads = _console(), _threads(_slots(options, planned))
    console.print(f"Measured: {calibrate(planned, options.runs, threads, console.print)}")
    return 0


def _launch(options: argparse.Namespace, asked: "Asked", planned: "list[Planned]", estimates: "Estimates") -> int:
    console, on = _console(), ", ".join(asked.bases)
    todo: dict[Path, list[Planned]] = {}
    for p in planned:
        if not p.done:
            todo.setdefault(p.folder.path, []).append(p)
    runs = len({p.folder.path for p in planned})
    if not todo:
        console.print(f"Nothing left to train: all {runs} runs of {asked.name} on {on} are done.")
        return 0
    console.print(f"{asked.name} on {on}: {runs} runs, {runs - len(todo)} done before.")

    from ablations.progress import Display

    names = {path: f"{_arms(ps, asked)}, seed {ps[0].run.config.seed}" for path, ps in todo.items()}
    slots = _slots(options, planned)
    with Display(names, slots, console) as display:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the workers are stopped in order
        try:
            outcomes = _execute(options, todo, slots, display, estimates)
        except KeyboardInterrupt:
            display.line("Interrupted. The same command goes on from the last checkpoints.")
            return 130
    return _sum_up(options, asked, outcomes, runs)


def _execute(
    options: argparse.Namespace, todo: "dict[Path, list[Planned]]", slots: int, display: Any, estimates: "Estimates"
) -> "dict[Path, Outcome]":
    from ablations.executors import local

    jobs = []
    for arms in todo.values():
        needs = arms[0].run.arm.resources
        longest = max(estimates.of(p).seconds or float("inf") for p in arms)
        width = needs.slots(estimates.threads)
        jobs.append(local.Job(arms[0].folder, longest, width, needs.memory_gb or 0.0))
    if options.executor == "debug":
        from ablations.executors import debug

        return debug.execute(jobs, display, options.pdb)
    from ablations import snapshot
    from diffussm.config import is_outside

    mixers = {p.run.config.model.mixer for ps in todo.values() for p in ps}
    with snapshot.taken(options.runs, filter(is_outside, mixers)) as code:
        return local.Pool(jobs, local.Machine(slots, estimates.threads), code, display).work()


def _sum_up(options: argparse.Namespace, asked: "Asked", outcomes: "dict[Path, Outcome]", runs: int) -> int:
    where = "" if options.runs == RUNS else f" --runs {shlex.quote(str(options.runs))}"
    bad = {folder: outcome for folder, outcome in outcomes.items() if outcome.kind != "done"}
    for folder, outcome in bad.items():
        log = f" (log: {outcome.log})" if outcome.log else ""
        print(f"{folder.name}: {outcome.kind}: {outcome.reason}{log}", file=sys.stderr)
    if not bad:
        _console().print(f"All {runs} runs are done. Next: python reports/make_figures.py --grid {asked.name}{where}")
        return 0
    retry = f"python ablations/manage.py retry --%s --grid {asked.name}{where}"
    if any(outcome.kind == "failed" for outcome in bad.values()):
        words = "What was killed is tried again by the next launch; the rest when the code has changed, or after"
        print(f"{words}: {retry % 'failed'}", file=sys.stderr)
    if any(outcome.kind == "cancelled" for outcome in bad.values()):
        print(f"Cancelled runs start again after: {retry % 'cancelled'}", file=sys.stderr)
    return 1


def _slots(options: argparse.Namespace, planned: "list[Planned]") -> int:
    from diffussm.machine import gpus, usable_cores

    if options.executor == "debug":
        return 1
    threads = max(p.run.config.training.threads for p in planned) or usable_cores()
    return options.jobs or len(gpus()) or max(1, usable_cores() // threads)


def _threads(slots: int) -> int:
    """What a slot has of the cores."""
    from diffussm.machine import usable_cores

    return max(1, usable_cores() // slots)


def _arms(planned: "list[Planned]", asked: "Asked") -> str:
    """The arms that share a run: the first, and how many more."""
    more = f" and {len(planned) - 1} more" if len(planned) > 1 else ""
    on = f"{planned[0].base}: " if len(asked.bases) > 1 else ""
    return on + planned[0].run.arm.name + more


def _print_plan(
    options: argparse.Namespace,
    asked: "Asked",
    planned: "list[Planned]",
    whole: "list[Planned]",
    estimates: "Estimates",
) -> None:
    from ablations import plan, plan_table, table

    estimated = {p: estimates.of(p) for p in planned}
    totals = plan_table.totals(estimated, estimates, _slots(options, planned))
    if options.json or options.csv:
        rows = [plan_table.row(p, estimate) for p, estimate in estimated.items()]
        if options.csv:
            writer = csv.DictWriter(sys.stdout, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        else:
            print(table.to_json({"grid": asked.name, **totals, "warnings": asked.warnings(whole), "runs": rows}))
        return
    print(plan_table.text(estimated, several_bases=len(asked.bases) > 1))
    print(plan.summary(planned))
    print(plan_table.total_words(totals))
    for lacks in dict.fromkeys(p.arm.lacks for p in planned if p.arm.lacks):
        print(f"To run this: {lacks}.")
    for warning in asked.warnings(whole):
        print(f"warning: {warning}")


def _console() -> Any:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True, markup=False)


if __name__ == "__main__":
    sys.exit(exit_code(main))
