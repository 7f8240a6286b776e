"""The evaluation of a run's milestone, from the weights that are kept of it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from diffussm.config import Config
from diffussm.errors import UserError
from diffussm.metrics.context import EvaluationContext
from diffussm.metrics.evaluation.model import EvaluatedModel, evaluate_model
from diffussm.metrics.key import evaluation_key
from diffussm.metrics.requirements import missing_measuring_requirement
from diffussm.metrics.shards import retry_if_shards_removed
from diffussm.metrics.suite import metric_suite
from diffussm.models.trained import network_with, read_kept_weights
from diffussm.store.rundir import RunDir


@retry_if_shards_removed
def evaluate_milestone(
    run: RunDir,
    config: Config,
    step: int,
    backend: str,
    device: torch.device | str,
    provenance: Mapping[str, Any],
    context: EvaluationContext,
) -> None:
    """Measure the weights kept at `step` as config.evaluation asks, and write sheet, samples and, last, the record.

    Raises as `evaluate_model`, and UserError for what measuring lacks.
    """
    with context.processes.join():
        if missing := missing_measuring_requirement(config):  # also of another reference file than was requested
            raise UserError(missing)
        key, kind = evaluation_key(config), config.evaluation.weights
        suite = metric_suite(config.evaluation, key, str(device))
        weights, path = read_kept_weights(run, step, kind), run.weights(step, kind)
        model = EvaluatedModel(
            config=config,
            network=network_with(weights, path, config, backend, device),
            key=key,
            weights=path,
            weights_sha256=weights.origin.sha256,
            weights_verifiable=weights.origin.stamp is not None,
            run_id=run.run_id,
            step=step,
            made_of={"weights": weights.origin.sha256, "key": key.digest},
            timing=lambda: _seconds_per_step(run, step),
        )
    evaluate_model(model, suite, run.record(step, key.digest), device, provenance, context)


def _seconds_per_step(run: RunDir, step: int) -> dict[str, float]:
    """Return the median over the loss log up to `step`, by its name; nothing if no row of the log is readable."""
    rows = [row for row in run.loss_rows() if "seconds_per_step" in row]
    until = [row for row in rows if row["step"] <= step] or rows  # all, for a replayed step before the first row
    return {"seconds_per_step": float(np.median([row["seconds_per_step"] for row in until]))} if until else {}
