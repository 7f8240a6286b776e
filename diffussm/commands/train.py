"""`diffussm train`: train one run as far as is requested and evaluate its milestones, in one process or in several."""

import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffussm.config import bases, dropped_milestones, is_recipe_file, naming_inherited
from diffussm.data.lookup.resolution import resolve_with_data
from diffussm.data.prepared.stage import set_stage
from diffussm.distributed.group import ProcessGroup, init_from_environment
from diffussm.distributed.torchrun import may_restart, record_error
from diffussm.errors import UserError, one_line, unknown
from diffussm.metrics.data_digests import remarks
from diffussm.progress import Progress
from diffussm.run.heartbeat import Liveness
from diffussm.run.outcome import print_failure
from diffussm.run.request import allow_replays, kept_settings, lost_milestone, order_settings, request_run
from diffussm.run.tasks import missing_records
from diffussm.stopping import Stopped, StopRequest, Superseded
from diffussm.store.rundir import RunDir

DONE, FAILED, USER_ERROR, STOPPED = range(4)  # exit codes


def train(
    target: str,
    settings: Mapping[str, Any],
    runs: Path | None,
    replay: bool,
    retry: bool,
    checkpoint_minutes: float | None,
    to_logs: bool,
    stage: str | None = None,
    ordered: dict[str, Any] | None = None,
) -> int:
    """Work on the run of `target`, a base, a TOML file or a run folder; return the exit code.

    It is 0 if all that is requested of the run is done, 1 after a failure or if another process works on the run, 2
    after a mistake of the user's, and 3 if SIGTERM, SIGINT or SIGUSR2 stopped it: it has written a checkpoint, from
    which the same command continues. `ordered` are step settings to change from now on.
    """
    stop = StopRequest()
    try:
        with init_from_environment() as processes, stop.set_on(signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
            # Until the rendezvous is over, when nothing polls the request, signals end the process as usual.
            run = processes.on_rank_zero(lambda: _run_folder(target, settings, runs, replay, retry, ordered))
            if processes.is_rank_zero:
                _warn_of_data(run)
            if stage is not None:
                set_stage(stage, [run.config().data])
            return _run_tasks(run, stop, processes, checkpoint_minutes, to_logs)
    except UserError as error:
        print_failure(error)
        return USER_ERROR
    except Exception as error:
        print_failure(error)
        record_error(error)
        return FAILED


def _run_tasks(
    run: RunDir, stop: StopRequest, processes: ProcessGroup, checkpoint_minutes: float | None, to_logs: bool
) -> int:
    from diffussm.run.runner import TaskRunner  # imports torch

    progress = _Progress()
    if processes.is_rank_zero:
        print(run.path, flush=True)
    runner = TaskRunner(
        run.path,
        checkpoint_minutes,
        stop,
        processes=processes,
        to_logs=to_logs,
        on_progress=progress if processes.is_rank_zero else None,
    )
    try:
        liveness = Liveness(by_mtime=True)
        runner.run_pending(liveness.is_alive_for_certain if may_restart() else liveness.is_alive)
        processes.on_rank_zero(lambda: _check_done(runner.run))
    except Stopped as stopped:
        progress.end_line()
        if processes.is_rank_zero:
            print(f"{'superseded' if isinstance(stopped, Superseded) else 'stopped'}: {stopped}", file=sys.stderr)
        return FAILED if isinstance(stopped, Superseded) else STOPPED
    return DONE


def _warn_of_data(run: RunDir) -> None:
    """Print a line on what was baked into the run's data, and for each reference and extractor of its requests that was
    made of other data."""
    config = run.config()
    requested = (config.model_copy(update={"evaluation": request.evaluation}) for request in run.requests())
    for line in dict.fromkeys(line for one in requested for line in remarks(one)):
        print(f"warning: {line}", file=sys.stderr, flush=True)


def _check_done(run: RunDir) -> None:
    """Raise UserError if a run on which no task is pending lacks a record: the weights that it would be of are gone."""
    for missing in missing_records(run, run.requests()):
        raise lost_milestone(run.run_id, run.trained_steps(), missing.steps[0])


def _run_folder(
    target: str,
    settings: Mapping[str, Any],
    runs: Path | None,
    replay: bool,
    retry: bool,
    ordered: dict[str, Any] | None,
) -> RunDir:
    """Return the run folder that `target` is, or that it requests below `runs`, or "runs"."""
    path = Path(target)
    if target in bases() or is_recipe_file(target):
        try:
            with naming_inherited(target, settings):
                config = resolve_with_data(target, settings)
                run = request_run(runs or Path("runs"), config, replay)
            for line in dropped_milestones(config):
                print(f"warning: {line}", file=sys.stderr, flush=True)
        except (PermissionError, FileNotFoundError, NotADirectoryError) as error:  # no place for run folders
            raise UserError(one_line(error)) from None
    elif not path.exists():
        raise unknown("base", target, bases(), "the path of a TOML file or of a run folder")
    elif settings:
        option = f"--set {next(iter(settings))}"
        raise UserError(f"{option}: {target} is a run folder; give a base or a TOML file to request something of a run")
    elif runs is not None:
        raise UserError(f"--runs {runs}: not used: {target} is a run folder; leave it out")
    else:
        run = RunDir(path.resolve())  # its name is the run's id
        run.config()  # raises for any other folder
        run.latest_request()
        if replay:
            allow_replays(run)
    if retry:
        run.add_order("retry")
    if run.cancelled:
        raise UserError(f"{run.path}: the run is cancelled; add --retry to resume it")
    if ordered:
        order_settings(run, ordered)
    for line in kept_settings(run, run.config(), settings, ordered or ()):
        print(f"warning: {line}", file=sys.stderr, flush=True)
    return run


class _Progress:
    """Shows on stderr how far the task at hand is."""

    def __init__(self) -> None:
        self._shown = ("", 0)
        self._progress: Progress | None = None

    def __call__(self, task: str, done: int, total: int, note: str = "") -> None:
        if self._progress is None or self._shown != (task, total):
            self._shown, self._progress = (task, total), Progress(task, total)
        self._progress(done, note)

    def end_line(self) -> None:
        if self._progress:
            self._progress.end_line()
