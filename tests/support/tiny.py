"""A run that takes about a second: the real data, the real path, a model of a few hundred weights."""

from pathlib import Path
from typing import Any

from diffussm.config import Config, Request, resolve
from diffussm.store.rundir import RunDir

SETTINGS: dict[str, Any] = {
    "model.width": 8,
    "model.state": 4,
    "model.hourglass": 4,
    "training.batch": 7,
    "training.steps": 24,
    "training.milestones": [8, 16, 24],
    "evaluation.samples": 12,
    "evaluation.batch": 5,
    "evaluation.sampler_steps": 2,
    "evaluation.metrics": ["fid", "label_accuracy"],
}


def config(**changes: Any) -> Config:
    """The tiny config; changes as section__field=value."""
    return resolve("digits", {**SETTINGS, **{key.replace("__", "."): value for key, value in changes.items()}})


def run_folder(runs: Path, **changes: Any) -> RunDir:
    made = config(**changes)
    run = RunDir.create(runs, made)
    run.add_requests([Request.from_config(made)])
    return run
