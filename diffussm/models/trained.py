"""From a run's folder to a network to sample from: the config it was asked for, the step, the kept weights."""

from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import load

from diffussm.config import Config, validate
from diffussm.errors import UserError
from diffussm.models.build import build_model
from diffussm.models.diffussm import DiffuSSM
from diffussm.models.dit import DiT
from diffussm.models.weights import load_weights
from diffussm.store.rundir import RunDir


def requested_config(run: RunDir, overrides: Mapping[str, Any]) -> Config:
    """Return the run's config with the evaluation of its latest request, changed by `overrides` of its fields."""
    requested = run.latest_request().evaluation.model_dump(mode="json")
    if "reference" in overrides:
        del requested["reference_file_sha256"]  # of the file that is not used
    evaluation = requested | dict(overrides)
    return validate(run.config().model_dump(mode="json") | {"evaluation": evaluation}, run.run_id)


def select_milestone(run: RunDir, kind: str, step: int | None) -> int:
    """Return `step`, or the last one if it is None; raise UserError if its weights (ema | raw) are not kept."""
    kept = run.kept_milestones(kind)
    if not kept:
        milestones = [first for request in run.requests() for first in request.milestones[:1]]
        first = f", the first at step {min(milestones)}" if milestones else ""
        raise UserError(f"{run.path}: no {kind} weights are kept yet; they are kept at milestones{first}")
    if step is not None and step not in kept:
        raise UserError(f"step {step}: no {kind} weights are kept of this step; available: {', '.join(map(str, kept))}")
    return kept[-1] if step is None else step


def load_network(
    run: RunDir, config: Config, kind: str, step: int, backend: str, device: torch.device | str = "cpu"
) -> DiT | DiffuSSM:
    """Return the run's model with the weights (`kind`: ema | raw) kept at `step`, ready to sample from."""
    network = build_model(config, backend).to(device).eval()
    path = run.weights(step, kind)
    load_weights(network, load(path.read_bytes()), str(path))
    return network
