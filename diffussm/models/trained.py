"""From a run's folder to a network to sample from: the config it was asked for, the step, the kept weights."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from diffussm.config import Config, validate
from diffussm.errors import UserError
from diffussm.models.build import build_model
from diffussm.models.diffussm import DiffuSSM
from diffussm.models.dit import DiT
from diffussm.models.stored import StoredWeights, read_weights_of
from diffussm.models.weights import load_weights
from diffussm.store.integrity.set_aside import set_aside
from diffussm.store.integrity.stamp import DamagedFile
from diffussm.store.rundir import RunDir

_HASHES = {
    "reference": "reference_file_sha256",
    "extractor": "extractor_weights_sha256",
    "vae": "vae_sha256",
}  # of the files that fields of the evaluation name


def requested_config(run: RunDir, overrides: Mapping[str, Any]) -> Config:
    """Return the run's config with the evaluation of its latest request, changed by `overrides` of its fields."""
    requested = run.latest_request().evaluation.model_dump(mode="json")
    for field, stated in _HASHES.items():
        if field in overrides:
            del requested[stated]  # of a file that is not used
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
    """Return the run's model with the weights (`kind`: ema | raw) kept at `step`, ready to sample from.

    Raises as `read_kept_weights`.
    """
    return network_with(read_kept_weights(run, step, kind), run.weights(step, kind), config, backend, device)


def network_with(
    weights: StoredWeights, path: Path, config: Config, backend: str, device: torch.device | str
) -> DiT | DiffuSSM:
    """Return the config's model with the weights, which are those of the file at `path`."""
    network = build_model(config, backend).to(device).eval()
    load_weights(network, weights.tensors, str(path))
    return network


def read_kept_weights(run: RunDir, step: int, kind: str) -> StoredWeights:
    """Return the weights (ema | raw) that the run kept at `step`.

    Raises FileNotFoundError if there are none. A file that is damaged, or of another run or step, is set aside, and
    DamagedFile raised. One of an earlier version cannot be verified.
    """
    path = run.weights(step, kind)
    try:
        return read_weights_of(path, run.run_id, step, kind)
    except DamagedFile as damage:
        raise DamagedFile(path, f"{damage.what}; {_set_aside(path)}") from None


def _set_aside(path: Path) -> str:
    """Set the file aside, unless that is not allowed or it is not readable for this user; return what was done."""
    remedy = "the next launch of the run makes these weights again"
    if path.is_file() and not os.access(path, os.R_OK):
        return "make it readable"
    try:
        return f"set aside as {set_aside(path).name}; {remedy}"
    except FileNotFoundError:  # by another process
        return f"set aside; {remedy}"
    except OSError as error:
        return f"it cannot be set aside ({error.strerror}); rename it, and {remedy}"
