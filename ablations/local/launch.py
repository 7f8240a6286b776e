"""A launch on this machine: runs a plan with worker processes, shows their progress, and sums up the outcomes."""

import argparse
import signal
import sys
from pathlib import Path

from rich.console import Console

from ablations.local import results
from ablations.local.display import Display, plain_console
from ablations.local.pool import Pool
from ablations.local.slots import SlotLayout
from ablations.options import script
from ablations.plan import snapshot
from ablations.plan.estimate import Estimates
from ablations.plan.job import Job
from ablations.plan.plan import PlannedRun, unfinished
from ablations.plan.request import GridRequest
from diffussm.config import is_external
from diffussm.run.outcome import Outcome
from diffussm.tables import plural


def execute(
    options: argparse.Namespace, request: GridRequest, planned: list[PlannedRun], slots: int, estimates: Estimates
) -> int:
    """Work on the runs until nothing more can be done for any; returns the exit code."""
    console = plain_console()
    todo = {arms[0].run_dir.path: arms for arms in unfinished(planned).values()}
    runs = len({p.run.run_id for p in planned})
    if not todo:
        console.print(f"Nothing left to train: all {runs} runs of {request.name} on {request.base_names} are done.")
        _print_results(planned)
        return 0
    console.print(f"{request.name} on {request.base_names}: {plural(runs, 'run')}, {runs - len(todo)} done before.")

    names = {path: f"{_arms(arms, request)}, seed {arms[0].run.config.seed}" for path, arms in todo.items()}
    with Display(names, slots, console) as display:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the workers stop after a checkpoint
        try:
            outcomes = _run_jobs(options, todo, slots, display, estimates)
        except KeyboardInterrupt:
            display.line("Interrupted. The same command continues from the last checkpoints.")
            return 130
    _print_results(planned)
    return _sum_up(request, outcomes, runs, console)


def _run_jobs(
    options: argparse.Namespace, todo: dict[Path, list[PlannedRun]], slots: int, display: Display, estimates: Estimates
) -> dict[Path, Outcome]:
    jobs = []
    for arms in todo.values():
        longest = max(estimates.estimate(p).seconds or float("inf") for p in arms)
        jobs.append(Job(arms[0].run_dir, longest, arms[0].run.arm.resources))
    if options.executor == "debug":
        from ablations.local import debug

        return debug.execute(jobs, display, options.pdb)
    mixers = {p.run.config.model.mixer for arms in todo.values() for p in arms}
    with snapshot.code_snapshot(options.runs, filter(is_external, mixers)) as code:
        return Pool(jobs, SlotLayout(slots, estimates.threads), code, display).work()


def _print_results(planned: list[PlannedRun]) -> None:
    if found := results.table(planned):
        print(f"\nMeans over seeds, at the last step:\n{found}\n")


def _sum_up(request: GridRequest, outcomes: dict[Path, Outcome], runs: int, console: Console) -> int:
    not_done = {folder: outcome for folder, outcome in outcomes.items() if outcome.kind != "done"}
    for folder, outcome in not_done.items():
        log = f" (log: {outcome.log})" if outcome.log else ""
        print(f"{folder.name}: {outcome.kind}: {outcome.reason}{log}", file=sys.stderr)
    if not not_done:
        console.print(f"All {runs} runs are done. Next: {script('reports/make_figures.py')} {request.selector}")
        return 0
    retry = f"{script('ablations/manage.py')} retry"
    if any(outcome.kind == "failed" for outcome in not_done.values()):
        hint = "The next launch retries runs that were killed. To retry other failures without a change of the code"
        print(f"{hint}: {retry} --failed {request.selector}", file=sys.stderr)
    if any(outcome.kind == "cancelled" for outcome in not_done.values()):
        print(f"Cancelled runs start again after: {retry} --cancelled {request.selector}", file=sys.stderr)
    return 1


def _arms(planned: list[PlannedRun], request: GridRequest) -> str:
    """Return the name to show for arms that share a run: the first of them, and how many more there are."""
    more = f" and {len(planned) - 1} more" if len(planned) > 1 else ""
    on = f"{planned[0].base}: " if len(request.bases) > 1 else ""
    return on + planned[0].run.arm.name + more
