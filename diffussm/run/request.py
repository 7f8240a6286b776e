"""From a config to a run folder in which its training and evaluations are requested. No torch."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from diffussm.config import Config, Request
from diffussm.data.lookup.facts import check_fit
from diffussm.errors import UserError
from diffussm.metrics.requested_files import as_requested
from diffussm.metrics.requirements import check_requirements
from diffussm.run.tasks import lost_milestones, request_key
from diffussm.store.execution import SettingsFiles, StepSettings
from diffussm.store.rundir import RunDir


def request_run(runs: Path, config: Config, replay: bool = False) -> RunDir:
    """Return the folder of the config's run below `runs`, after adding the config's request to it.

    Raises UserError, and writes no request, if the model does not fit its data, if data or weights are missing, or
    if the run kept no weights of a milestone, unless a `replay` may train to it again.
    """
    config = as_requested(config)
    check_fit(config)
    check_requirements(config)
    run, request = RunDir.create(runs, config), Request.from_config(config)
    lost = lost_milestones(run, request, request_key(run.path, request))
    if lost and not replay:
        raise lost_milestone(run.run_id, run.trained_steps(), lost[0])
    run.add_requests([request])
    if lost:
        run.allow_replay(request)
    return run


def allow_replays(run: RunDir) -> None:
    """Let every request of the run have the milestones that it lacks by a replay of the training."""
    for request in run.requests():
        if lost_milestones(run, request, request_key(run.path, request)):
            run.allow_replay(request)


def lost_milestone(run_id: str, trained: int, step: int) -> UserError:
    """Return the error for a requested milestone `step` that a run, trained to step `trained`, kept no weights of."""
    return UserError(
        f"training.milestones: {run_id} is trained to step {trained} and kept no weights of step {step}; choose "
        "milestones that it kept or later ones, or retrain up to that step with --replay"
    )


def step_settings(run: RunDir, config: Config) -> StepSettings:
    """Return the step settings that are in force at the next start of a run: ordered, stored or of its config."""
    return SettingsFiles(run.path).ordered() or run.execution() or StepSettings.of(config)


def kept_settings(run: RunDir, config: Config, settings: Mapping[str, Any], ordered: Collection[str] = ()) -> list[str]:
    """Return a line for each of the `settings`, dotted keys of the config, instead of which the run keeps what it began
    with or what was ordered; none of a damaged run, nor of what is `ordered` now."""
    names = [name for name in StepSettings.model_fields if name not in ordered]
    given = {name: settings[key] for name in names if (key := f"training.{name}") in settings}
    in_force: dict[str, Any] = {}
    with suppress(UserError):
        in_force = step_settings(run, config).step_settings if given else {}
    return [
        f"training.{name} = {value}: {run.run_id} keeps {in_force[name]}; --{name.replace('_', '-')} {value} changes it"
        for name, value in given.items()
        if value != in_force.get(name, value)
    ]


def order_settings(run: RunDir, changes: dict[str, Any]) -> bool:
    """Let the run's training be computed otherwise from its next start on; return whether that is a change. It may then
    start again if it had failed."""
    before = run.execution() or StepSettings.of(run.config())
    return SettingsFiles(run.path).order(changes, before, run.owner())
