"""Manage launched grids: `python ablations/manage.py status`. States are read from run folders, and where those leave
it open, SLURM is asked about the jobs."""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from a clone

from ablations.options import (
    RUNS,
    add_step_settings,
    no_match,
    positive,
    step_settings,
    to_json,
    to_json_line,
)
from diffussm.errors import Parser, UserError, exit_code

if TYPE_CHECKING:
    from ablations.status.overview import Row
    from diffussm.run.heartbeat import Liveness

ENDED = ("done", "failed", "diverged", "cancelled")
DESCRIPTION = "See and steer the runs of launched grids, from any shell, even after the launcher has died."


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="manage.py", description=DESCRIPTION, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)

    def command(name: str, summary: str) -> Parser:
        made = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        add = made.add_argument
        add("--grid", metavar="NAME", help="only runs of this grid (default: of all launched grids)")
        add("--base", metavar="NAME", help="only runs on this base")
        add("--only", action="append", default=[], metavar="PATTERN",
            help="only arms or run ids that match the pattern, or a level, as in size=S; may be repeated")  # fmt: skip
        add("--json", action="store_true", help="print JSON")
        add("--runs", type=Path, default=RUNS, metavar="DIR", help="the folder of the run folders (default: runs)")
        return made

    command("status", "print a row for each run: state, step, loss, FID, speed, attempts, reason")
    watch = command("watch", "print the status repeatedly, until every run has ended or needs another launch")
    watch.add_argument("--interval", type=float, default=5.0, metavar="S", help="seconds between updates (default: 5)")
    logs = command("logs", "print the logs of all attempts at a run")
    logs.add_argument("run", metavar="RUN", help="a run id, the beginning of one, or a pattern that one run matches")
    logs.add_argument("-f", "--follow", action="store_true", help="keep printing what is added to the logs")
    command(
        "cancel",
        "stop runs (default: all unfinished runs of all launched grids) after a checkpoint; they stay stopped until "
        "`retry --cancelled`",
    )
    retry = command(
        "retry", "let runs be started again, by a running launch or by the next one; give --failed, --cancelled or both"
    )
    retry.add_argument("--failed", action="store_true", help="retry runs that failed or diverged")
    retry.add_argument("--cancelled", action="store_true", help="retry cancelled runs")
    add_step_settings(retry)
    add_step_settings(
        command(
            "settings",
            "change how runs are computed from their next start on: micro-batches, recomputation, compilation",
        )
    )
    extend = command("extend", "ask for more steps of runs; they continue from their last checkpoints")
    extend.add_argument("--steps", type=positive, required=True, metavar="N", help="the total number of steps")
    gc = command("gc", "list files that no run needs any more")
    gc.add_argument("--yes", action="store_true", help="delete them")
    gc.add_argument("--unlisted", action="store_true", help="include run folders that no launched grid names")
    doctor = command("doctor", "check whether grids can be run here: folder, disk, versions, weights, data")
    doctor.add_argument("--profile", metavar="NAME", help="check the cluster too, with a job of that profile")
    doctor.add_argument("--set-slurm", action="append", default=[], metavar="KEY=VALUE", help="as in launch.py")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    handlers: dict[str, Callable[[argparse.Namespace], int]] = {
        "status": _status,
        "watch": _watch,
        "logs": _logs,
        "cancel": _cancel,
        "retry": _retry,
        "settings": _settings,
        "extend": _extend,
        "gc": _gc,
        "doctor": _doctor,
    }
    return handlers[options.command](options)


def _rows(options: argparse.Namespace, liveness: "Liveness | None" = None) -> "list[Row]":
    from ablations.slurm.scheduler import Slurm
    from ablations.status.overview import overview
    from diffussm.run.heartbeat import Liveness
    from diffussm.store import manifests

    liveness = liveness or Liveness(by_mtime=True)
    launched = manifests.find_required(options.runs, options.grid, options.base)
    slurm = Slurm(options.runs)
    for damage in (*launched.damaged, *slurm.damaged):
        _warn(str(damage))
    rows = overview(options.runs, launched.manifests.values(), options.only, liveness, slurm)
    if not rows:
        raise no_match(options.only)
    return rows


@cache  # once, however often `watch` looks
def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)


def _status(options: argparse.Namespace) -> int:
    from ablations.status import overview

    rows = _rows(options)
    if options.json:
        print(to_json({"grids": overview.counts(rows), "runs": [row.as_dict() for row in rows]}))
    else:
        print(overview.text(rows))
        print(overview.summary(rows))
    return 0


def _watch(options: argparse.Namespace) -> int:
    from ablations.status import overview
    from diffussm.run.heartbeat import Liveness

    liveness, printed = Liveness(by_mtime=True), ""
    redraws = sys.stdout.isatty() and not options.json
    try:
        while True:
            rows = _rows(options, liveness)
            text = overview.summary(rows)
            if redraws:  # clear the screen, as `watch` does
                print(f"\033[H\033[2J{overview.text(rows)}\n{text}", flush=True)
            elif options.json:
                print(to_json_line(overview.counts(rows)), flush=True)
            elif text != printed:
                print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
            printed = text
            if all(row.state.needs_launch or row.state.name in ENDED for row in rows):
                return 0
            time.sleep(options.interval)
    except KeyboardInterrupt:
        return 130


def _logs(options: argparse.Namespace) -> int:
    from ablations.slurm import submissions
    from ablations.status import logs, overview

    run = overview.find(_rows(options), options.run)
    if options.json:
        paths = logs.run_logs(run, submissions.logs)
        print(to_json([{"log": str(path), "text": path.read_text(errors="replace")} for path in paths]))
        return 0
    try:
        logs.show(run, submissions.logs, options.follow)
    except KeyboardInterrupt:
        return 130
    return 0


def _cancel(options: argparse.Namespace) -> int:
    rows = {row.run.path: row for row in _rows(options) if row.state.name not in ("done", "cancelled")}
    for row in rows.values():
        row.run.add_order("cancel")
    from ablations.slurm.scheduler import Slurm

    if complaint := Slurm(options.runs).cancel_pending([row.run.run_id for row in rows.values()]):
        print(f"warning: {complaint}", file=sys.stderr)
    return _report(options, rows.values(), "cancelled; those that are running stop after a checkpoint")


def _retry(options: argparse.Namespace) -> int:
    from diffussm.run.request import order_settings
    from diffussm.run.tasks import failures

    changes = step_settings(options)
    if not (options.failed or options.cancelled):
        raise UserError("retry: give --failed, --cancelled or both")
    states = (*("failed", "diverged") * options.failed, *("cancelled",) * options.cancelled)
    rows = {row.run.path: row for row in _rows(options) if row.state.name in states}
    retried = []
    for row in rows.values():
        try:
            failed = failures(row.run)
        except UserError as damage:
            _warn(f"{row.run.run_id}: not retried: {damage}")
            continue
        if changes:
            order_settings(row.run, changes)
        row.run.add_order("retry", failed)
        retried.append(row)
    return _report(options, retried, "to be retried, by a running launch or the next one")


def _settings(options: argparse.Namespace) -> int:
    from diffussm.run.request import order_settings

    changes = step_settings(options)
    if not changes:
        raise UserError("settings: give --micro-batch, --checkpointing or --compile")
    rows = {row.run.path: row for row in _rows(options) if row.run.path.exists()}
    changed = [row for row in rows.values() if order_settings(row.run, changes)]
    return _report(options, changed, "changed; it holds from their next start on")


def _extend(options: argparse.Namespace) -> int:
    from ablations.plan.request import extension
    from diffussm.store import manifests

    found = manifests.read_undamaged(options.runs, options.grid, options.base)
    extensions = [extension(manifest, options.runs, options.only, options.steps) for manifest in found]
    if not any(extensions):
        raise no_match(options.only)
    commands = [made.write() for made in extensions if made]
    if options.json:
        print(to_json(commands))
        return 0
    for command in commands:
        print(f"Requested. A running launch picks it up; otherwise run: {command}")
    return 0


def _gc(options: argparse.Namespace) -> int:
    from ablations.plan import garbage
    from ablations.slurm import submissions

    everything = not (options.grid or options.base or options.only)
    rows = _rows(options)
    code_in_use = None
    with contextlib.suppress(UserError):  # a damaged submission, as `_rows` has warned
        code_in_use = submissions.code_in_use(options.runs) if everything else None
    found = garbage.find(options.runs, rows, options.unlisted, code_in_use, _warn)
    if options.yes:
        for g in found:
            g.delete()
    if options.json:
        print(to_json([{"path": str(g.path), "what": g.what, "bytes": g.size} for g in found]))
    else:
        for g in found:
            print(f"{g.size / 1e6:10.1f} MB  {g.what}: {g.path}")
        done = "deleted" if options.yes else "would be deleted; --yes deletes them"
        print(f"{sum(g.size for g in found) / 1e6:.1f} MB in {len(found)} places {done}.")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from ablations.status import doctor

    checks = iter(doctor.examine(options.runs, options.grid, options.base))
    if options.set_slurm and not options.profile:
        raise UserError("--set-slurm: needs --profile")
    if options.profile:
        from ablations.slurm import doctor as cluster
        from ablations.slurm import profile

        checks = chain(checks, cluster.examine(options.runs, profile.load(options.profile, options.set_slurm)))
    found = []
    for check in checks:
        found.append(check)
        if not options.json:
            print(f"{check.verdict:7} {check.what}: {check.message}", flush=True)
    if options.json:
        # `words` is the former name of `message`, kept for this version
        print(to_json([{**check.__dict__, "words": check.message} for check in found]))
    return 1 if any(check.verdict == "fail" for check in found) else 0


def _report(options: argparse.Namespace, rows: Any, result: str) -> int:
    from diffussm.tables import plural

    rows = list(rows)
    if options.json:
        print(to_json([row.run.run_id for row in rows]))
        return 0
    for row in rows:
        print(f"{row.run.run_id} ({row.arm}, seed {row.seed})")
    print(f"{plural(len(rows), 'run')} {result}.")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
