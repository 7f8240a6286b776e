"""Launch a grid: `python ablations/launch.py --grid NAME`. Runs that are done are skipped; others start or resume."""

import argparse
import csv
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from a clone

from ablations.options import RUNS, add_step_settings, no_match, positive, seeds, step_settings, to_json
from diffussm.errors import Parser, UserError, exit_code, unknown

if TYPE_CHECKING:
    from ablations.gpu_memory import GpuMemory
    from ablations.plan.estimate import Estimates
    from ablations.plan.plan import PlannedRun
    from ablations.plan.request import GridRequest
    from ablations.slurm.launch import SubmissionPlan

SCHEMA = Path(__file__).with_name("grid.schema.json")
EXECUTORS = ("local", "debug", "slurm")
DESCRIPTION = "Train and evaluate every run of a grid. Runs that are done are skipped; interrupted ones resume."


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
    add("--base", metavar="NAME", help="the recipe to vary: a base, or the path of a .toml file (default: the grid's)")
    add("--data", metavar="DIR", help="the folder of the prepared data set: --set data.root=DIR")
    add("--seeds", type=seeds, metavar="N", help="N: seeds 0 .. N-1 in each arm; a list such as 0,2,5; or 5, (with a "
        "comma) for seed 5 only (default: the grid's)")  # fmt: skip
    add("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="override a config key (listed below) in every arm, as in training.steps=100; repeatable")  # fmt: skip
    add("--only", action="append", default=[], metavar="PATTERN",
        help="only arms or run ids that match, as in 'M = 2*', or a level, as in size=S; repeatable")  # fmt: skip
    add("--runs", type=Path, default=RUNS, metavar="DIR", help="the folder of the run folders (default: runs)")
    add("--executor", default="local", metavar="|".join(EXECUTORS), help="local: a pool of worker processes (default); "
        "debug: in this process, one run at a time, until the first failure; slurm: jobs on a cluster")  # fmt: skip
    add("--profile", metavar="NAME", help="with --executor slurm: the options of the jobs, a file of slurm/profiles "
        "or the path of one (default: a100)")  # fmt: skip
    add("--set-slurm", action="append", default=[], metavar="KEY=VALUE",
        help="with --executor slurm: set an option of sbatch, as in account=lab; KEY= unsets it")  # fmt: skip
    add("--pdb", action="store_true", help="with --executor debug: open the debugger where a run fails")
    add(
        "--jobs",
        type=positive,
        metavar="K",
        help="number of workers (default: one per GPU, or cores / threads of a run)",
    )
    add("--stage", metavar="DIR", help="copy prepared data sets to this folder of each node's own disk first, as in "
        "'$SLURM_TMPDIR'")  # fmt: skip
    add_step_settings(parser)
    add("--replay", action="store_true",
        help="retrain from the start up to requested milestones that a run passed without keeping weights")  # fmt: skip
    add("--dry-run", action="store_true", help="print every run with its cost, state and estimated time, and exit")
    add("--print-sbatch", action="store_true", help="with --dry-run and --executor slurm: print the job scripts too")
    add("--json", action="store_true", help="with --dry-run: print JSON")
    add("--csv", action="store_true", help="with --dry-run: print CSV")
    add("--calibrate", action="store_true", help="measure how long the grid's runs take on this machine, and exit")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.executor not in EXECUTORS:
        raise unknown("--executor", options.executor, EXECUTORS)
    if options.pdb and options.executor != "debug":
        raise UserError("--pdb: needs --executor debug")
    if (options.json or options.csv) and not options.dry_run:
        raise UserError("--json, --csv: need --dry-run")
    on_cluster = options.executor == "slurm"
    if not on_cluster and (options.profile or options.set_slurm or options.print_sbatch):
        raise UserError("--profile, --set-slurm, --print-sbatch: need --executor slurm")
    if options.print_sbatch and (not options.dry_run or options.json or options.csv):
        raise UserError("--print-sbatch: needs --dry-run, without --json or --csv")
    if on_cluster and options.jobs:
        raise UserError("--jobs: needs --executor local; on a cluster use --set-slurm throttle=K")
    from ablations.plan.plan import select
    from ablations.plan.request import GridRequest
    from diffussm.config import parse_settings

    request = GridRequest.from_arguments(
        options.grid,
        options.base,
        options.seeds,
        parse_settings(options.settings, options.data),
        options.runs,
        step_settings(options),
    )
    all_planned = request.plan()
    planned = select(all_planned, options.only)
    if not planned:
        raise no_match(options.only)
    if options.stage is not None:
        from diffussm.data.prepared.stage import set_stage

        set_stage(options.stage, [p.run.config.data for p in planned], elsewhere=on_cluster)
    if options.calibrate:
        return _calibrate(options, planned)
    if options.dry_run:
        _print_plan(options, request, planned, all_planned)
        return 0
    if on_cluster:
        submission = _submission_plan(options, request, planned)
        submission.check_cluster()
    for warning in request.warnings(all_planned) + (submission.memory.warnings if on_cluster else []):
        print(f"warning: {warning}", file=sys.stderr)
    for difference in request.write(planned, all_planned, options.replay):
        print(f"{difference.reason}. {difference.consequence}")
    if on_cluster:
        from ablations.slurm.launch import submit

        # planned anew: another launch may have submitted runs meanwhile
        return submit(_submission_plan(options, request, planned))
    from ablations.local.launch import execute

    slots = _slots(options, planned)
    estimates = _estimates(options.runs, slots)
    for warning in estimates.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return execute(options, request, planned, slots, estimates)


def _calibrate(options: argparse.Namespace, planned: "list[PlannedRun]") -> int:
    from ablations.plan.request import check_requirements

    check_requirements(planned)
    from ablations.local.display import plain_console
    from ablations.plan.calibrate import calibrate  # imports torch

    console, threads = plain_console(), _threads(_slots(options, planned))
    console.print(f"Measured: {calibrate(planned, options.runs, threads, console.print)}")
    return 0


def _submission_plan(
    options: argparse.Namespace, request: "GridRequest", planned: "list[PlannedRun]"
) -> "SubmissionPlan":
    from ablations.slurm import profile
    from ablations.slurm.launch import PROFILE, SubmissionPlan
    from diffussm.data.prepared.stage import VARIABLE as STAGE

    chosen = profile.load(options.profile or PROFILE, options.set_slurm)
    if options.stage:
        chosen = chosen.with_environment(STAGE, os.environ[STAGE])
    return SubmissionPlan.create(request, planned, chosen)


def _estimates(runs: Path, slots: int) -> "Estimates":
    from ablations.plan.estimate import Estimates

    return Estimates.load(runs, _threads(slots))


def _slots(options: argparse.Namespace, planned: "list[PlannedRun]") -> int:
    from diffussm.host.machine import gpus, usable_cores

    if options.executor == "debug":
        return 1
    threads = max(p.run.config.training.threads for p in planned) or usable_cores()
    return options.jobs or len(gpus()) or max(1, usable_cores() // threads)


def _threads(slots: int) -> int:
    """Return the number of threads of each slot."""
    from diffussm.host.machine import usable_cores

    return max(1, usable_cores() // slots)


def _local_memory(planned: "list[PlannedRun]", request: "GridRequest") -> "GpuMemory":
    """Return what trainings take of a GPU of this machine; how much that has is not known without torch."""
    from ablations.gpu_memory import GpuMemory
    from diffussm.host.machine import gpus

    of_each = min(1, len(gpus()))
    return GpuMemory.of(planned, lambda _: of_each, None, request.step_settings)


def _print_plan(
    options: argparse.Namespace, request: "GridRequest", planned: "list[PlannedRun]", all_planned: "list[PlannedRun]"
) -> None:
    from ablations.plan import plan
    from ablations.plan import table as plan_table

    warnings = request.warnings(all_planned)
    if options.executor == "slurm":
        submission = _submission_plan(options, request, planned)
        estimates: Estimates = submission.estimates
        totals, summary, memory = submission.totals(), submission.summary(), submission.memory
        warnings += map(str, submission.damaged)
    else:
        slots = _slots(options, planned)
        estimates = _estimates(options.runs, slots)
        totals = plan_table.totals({p: estimates.estimate(p) for p in planned}, estimates, slots)
        summary, memory = plan_table.format_totals(totals), _local_memory(planned, request)
        warnings += estimates.warnings
    warnings += memory.warnings
    estimated = {p: estimates.estimate(p) for p in planned}
    if options.json or options.csv:
        rows = [plan_table.row(p, estimate) for p, estimate in estimated.items()]
        if options.csv:
            writer = csv.DictWriter(sys.stdout, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        else:
            content = {
                "grid": request.name,
                **totals,
                "gpu_memory": memory.as_json(),
                "warnings": warnings,
                "runs": rows,
            }
            print(to_json(content))
        return
    print(plan_table.text(estimated, several_bases=len(request.bases) > 1))
    print(plan.summary(planned), f"Run folders are in {options.runs.absolute()}.", sep="\n")
    print("\n".join(filter(None, (summary, str(memory)))))
    if any(p.spec.provisional for p in planned):
        print("Ids are provisional where the data are not there: their digest will be part of the id.")
    for missing in dict.fromkeys(p.spec.missing_requirement for p in planned if p.spec.missing_requirement):
        print(f"Cannot run: {missing}.")
    for warning in warnings:
        print(f"warning: {warning}")
    if options.print_sbatch:
        for script in submission.scripts():
            print(f"\n{script}", end="")


if __name__ == "__main__":
    sys.exit(exit_code(main))
