"""Launch a grid: `python ablations/launch.py --grid NAME`. Runs that are done are skipped; started ones go on."""

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from a clone

from ablations.options import RUNS, no_match, positive, seeds
from diffussm.errors import Parser, UserError, exit_code, unknown

if TYPE_CHECKING:
    from ablations.plan.estimate import Estimates
    from ablations.plan.plan import Planned
    from ablations.plan.request import Asked
    from ablations.slurm.launch import Submitting

SCHEMA = Path(__file__).with_name("grid.schema.json")
EXECUTORS = ("local", "debug", "slurm")
DESCRIPTION = "Train and evaluate every run of a grid. What is done is skipped, what was interrupted goes on."


class LaunchParser(Parser):
    """The parser of this command line, whose help lists the keys of the config.

    They are read from the JSON Schema, as importing the config itself would make `--help` three times as slow.
    """

    def format_help(self) -> str:
        schema = json.loads(SCHEMA.read_text(encoding="utf-8"))["$defs"]["Overrides"]["properties"]
        described = {key: part["description"] for key, part in schema.items() if part.get("type") != "object"}
        width = max(map(len, described))
        lines = "".join(f"  {key:{width}}  {description}\n" for key, description in described.items())
        return f"{super().format_help()}\nkeys of --set (allowed values and defaults: docs/config.md):\n{lines}"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = LaunchParser(prog="launch.py", description=DESCRIPTION, allow_abbrev=False)
    add = parser.add_argument
    add("--grid", required=True, metavar="NAME", help="a grid of ablations/grids, or the path of a .toml file")
    add("--base", metavar="NAME", help="the recipe to vary (default: the grid's own)")
    add("--seeds", type=seeds, metavar="N", help="seeds 0 .. N-1 per arm, or which, as in 0,2,5 (default: the grid's)")
    add("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="override a config key (listed below) in every arm, as in training.steps=100; repeatable")  # fmt: skip
    add("--only", action="append", default=[], metavar="PATTERN",
        help="only arms or run ids that match, as in 'M = 2*', or a level, as in size=S; may be repeated")  # fmt: skip
    add("--runs", type=Path, default=RUNS, metavar="DIR", help="where run folders lie (default: runs)")
    add("--executor", default="local", metavar="|".join(EXECUTORS), help="local: a pool of worker processes (default); "
        "debug: in this process, one run at a time, the first failure ends it; slurm: jobs of a cluster")  # fmt: skip
    add("--profile", metavar="NAME", help="with --executor slurm: how jobs are asked for, a file of slurm/profiles "
        "or the path of one (default: a100)")  # fmt: skip
    add("--set-slurm", action="append", default=[], metavar="KEY=VALUE",
        help="with it: an option of sbatch, as in account=lab, or throttle=4; KEY= unsets it")  # fmt: skip
    add("--pdb", action="store_true", help="with --executor debug: open the debugger where a run fails")
    add("--jobs", type=positive, metavar="K", help="workers (default: one for each GPU, or cores / threads of a run)")
    add("--replay", action="store_true",
        help="train again to milestones behind a run's checkpoint whose weights were not kept")  # fmt: skip
    add("--dry-run", action="store_true", help="print every run with its cost, state and time, and stop")
    add("--print-sbatch", action="store_true", help="with --dry-run and --executor slurm: the scripts too")
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
    on_cluster = options.executor == "slurm"
    if not on_cluster and (options.profile or options.set_slurm or options.print_sbatch):
        raise UserError("--profile, --set-slurm, --print-sbatch: go with --executor slurm")
    if options.print_sbatch and (not options.dry_run or options.json or options.csv):
        raise UserError("--print-sbatch: goes with --dry-run, and not with --json or --csv")
    if on_cluster and options.jobs:
        raise UserError("--jobs: goes with --executor local; on a cluster --set-slurm throttle=K")
    from ablations.grid.selection import selection
    from ablations.plan.request import Asked
    from diffussm.config import parse_settings

    asked = Asked.of(options.grid, options.base, options.seeds, parse_settings(options.settings), options.runs)
    whole = asked.plan()
    meant = selection(options.only)
    planned = [p for p in whole if meant(p.run.arm.name, p.run.arm.levels, p.run.run_id)]
    if not planned:
        raise no_match(options.only)
    if options.calibrate:
        return _calibrate(options, planned)
    if options.dry_run:
        _print_plan(options, asked, planned, whole)
        return 0
    if on_cluster:
        _submitting(options, asked, planned).refuse()
    for warning in asked.warnings(whole):
        print(f"warning: {warning}", file=sys.stderr)
    if asked.ask(planned, whole, options.replay):
        print("Other settings than at the last launch: reports on this grid now show these runs only.")
    if on_cluster:
        from ablations.slurm.launch import submit

        return submit(options.runs, _submitting(options, asked, planned))
    from ablations.local.launch import execute

    return execute(options, asked, planned, _slots(options, planned), _estimates(options, planned))


def _calibrate(options: argparse.Namespace, planned: "list[Planned]") -> int:
    for p in planned:
        if p.arm.missing_requirement:
            raise UserError(p.arm.missing_requirement)
    from ablations.plan.calibrate import calibrate  # imports torch

    console, threads = _console(), _threads(_slots(options, planned))
    console.print(f"Measured: {calibrate(planned, options.runs, threads, console.print)}")
    return 0


def _submitting(options: argparse.Namespace, asked: "Asked", planned: "list[Planned]") -> "Submitting":
    from ablations.slurm import profile
    from ablations.slurm.launch import PROFILE, Submitting

    return Submitting.of(asked, planned, profile.load(options.profile or PROFILE, options.set_slurm))


def _estimates(options: argparse.Namespace, planned: "list[Planned]") -> "Estimates":
    from ablations.plan.estimate import Estimates, calibration_path

    return Estimates.load(calibration_path(options.runs), _threads(_slots(options, planned)))


def _slots(options: argparse.Namespace, planned: "list[Planned]") -> int:
    from diffussm.host.machine import gpus, usable_cores

    if options.executor == "debug":
        return 1
    threads = max(p.run.config.training.threads for p in planned) or usable_cores()
    return options.jobs or len(gpus()) or max(1, usable_cores() // threads)


def _threads(slots: int) -> int:
    """What a slot has of the cores."""
    from diffussm.host.machine import usable_cores

    return max(1, usable_cores() // slots)


def _print_plan(options: argparse.Namespace, asked: "Asked", planned: "list[Planned]", whole: "list[Planned]") -> None:
    from ablations import table
    from ablations.plan import plan
    from ablations.plan import table as plan_table

    if options.executor == "slurm":
        submitting = _submitting(options, asked, planned)
        estimates: Estimates = submitting.estimates
        totals, words = submitting.totals(), submitting.words()
    else:
        estimates = _estimates(options, planned)
        totals = plan_table.totals({p: estimates.of(p) for p in planned}, estimates, _slots(options, planned))
        words = plan_table.total_words(totals)
    estimated = {p: estimates.of(p) for p in planned}
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
    print(words)
    for missing in dict.fromkeys(p.arm.missing_requirement for p in planned if p.arm.missing_requirement):
        print(f"To run this: {missing}.")
    for warning in asked.warnings(whole):
        print(f"warning: {warning}")
    if options.print_sbatch:
        for script in submitting.scripts():
            print(f"\n{script}", end="")


def _console() -> Any:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True, markup=False)


if __name__ == "__main__":
    sys.exit(exit_code(main))
