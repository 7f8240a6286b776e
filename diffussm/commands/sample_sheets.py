"""Sheets of samples from the kept weights of a run, one per class, as in the paper's Figures 7 to 14."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffussm.config import Config
from diffussm.errors import UserError
from diffussm.metrics.sampling import generate
from diffussm.metrics.sheet import sheet
from diffussm.models.trained import kept_step, load_network, requested_config
from diffussm.store.rundir import RunDir


def write_sheets(
    run: RunDir,
    labels: Sequence[int | None],
    rows: int,
    columns: int,
    overrides: Mapping[str, Any],
    step: int | None = None,
    out: Path | None = None,
) -> list[Path]:
    """A PNG of rows x columns samples for each label (None: of all classes); returns their paths.

    `overrides` are fields of the evaluation that was asked of the run last; sample i of every sheet starts from the
    same noise. `step` is a milestone, the last one if not given. UserError for what the run does not have.
    """
    config = requested_config(run, overrides)
    for label in labels:
        check_label(config, label)
    step = kept_step(run, config.evaluation.weights, step)
    network = load_network(run, config, config.evaluation.weights, step, config.training.backend)
    folder = out or run.path / "sheets"
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for label in labels:
        samples = generate(config, network, rows * columns, label=label)
        of, e = "all" if label is None else f"class-{label}", config.evaluation
        guided = f"{e.guidance:g}" + (f"-of-{e.guidance_channels}-channels" if e.guidance_channels else "")
        paths.append(folder / f"{of}-step-{step}-{e.sampler}-{e.sampler_steps}-guidance-{guided}.png")
        sheet(samples.pixels, columns).save(paths[-1])
    return paths


def check_label(config: Config, label: int | None) -> None:
    """Raise UserError for a class that the run's model has not."""
    if label is not None and label >= config.model.classes:
        known = f"0 to {config.model.classes - 1}" if config.model.classes else "none: the model is unconditional"
        raise UserError(f"--classes {label}: this run has {known}")
