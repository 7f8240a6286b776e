"""The functions behind the public names of `diffussm`: load, save and build models, sample, measure images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffussm.config import BACKEND_NAMES, Config, validate
from diffussm.data.pixels import ArrayPixels
from diffussm.errors import UserError, unknown
from diffussm.metrics.evaluation.folder_config import folder_config
from diffussm.metrics.external import evaluate_external, external_config
from diffussm.metrics.sampling import generate
from diffussm.models.build import build_model
from diffussm.models.diffussm import DiffuSSM
from diffussm.models.dit import DiT
from diffussm.models.pretrained import from_pretrained, is_model_folder, save_pretrained
from diffussm.models.stored import read_weights
from diffussm.models.trained import load_network, read_kept_weights, requested_config, select_milestone
from diffussm.models.weights import load_weights
from diffussm.store.rundir import RunDir, is_run_folder
from diffussm.training.checkpoints import files as checkpoints

Model = DiT | DiffuSSM


def build(config: Config) -> Model:
    """Return the config's model with its initial values, on the CPU in float32."""
    return build_model(config)


def save(model: Model, folder: Path | str) -> None:
    """Write the model's config and weights to `folder`, from which `load` reads them."""
    save_pretrained(model, folder)


def load(
    path: Path | str, *, step: int | None = None, weights: str = "ema", backend: str = "auto", heads: int | None = None
) -> Model:
    """Return the model at `path` in eval mode, on the CPU; raise UserError for what is not one.

    `path` is a run folder, a training checkpoint or a milestone's weights inside one, a folder written by `save`, a
    Diffusers DiT's folder, or an official DiT's `.pt`. Of a run folder, `step` selects the milestone (default: the
    last); of a run folder or training checkpoint, `weights` is ema or raw. `backend` computes S4D. `heads` is for a
    `.pt` whose width is not a published one.
    """
    if weights not in ("ema", "raw"):
        raise unknown("weights", weights, ["ema", "raw"])
    if backend not in ("auto", *BACKEND_NAMES):
        raise unknown("backend", backend, ["auto", *BACKEND_NAMES])
    path = Path(path).resolve()  # a run's folder must bear its id
    if is_run_folder(path):
        run = RunDir(path)
        return load_network(run, run.config(), weights, select_milestone(run, weights, step), backend)
    if step is not None:
        raise UserError(f"{path}: step = {step}: only a run folder has steps to select from")
    run_folder = next((folder for folder in path.parents[:3] if is_run_folder(folder)), None)
    if not path.is_file() or run_folder is None:
        return from_pretrained(path, backend, heads)
    run = RunDir(run_folder)
    model = build_model(run.config(), backend)
    load_weights(model, _weights_in(run, path, weights), str(path))
    return model.eval()


def sample(
    model: Model,
    config: Config | Path | str,
    count: int,
    *,
    classes: int | Sequence[int] | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    seed: int | None = None,
    vae: Path | str = "",
) -> NDArray[np.uint8]:
    """Return `count` images, uint8 (N, C, H, W), sampled on the model's device; the model's mode is kept.

    `config` is the model's config, or the run folder or model's folder that it is from; its evaluation says how to
    sample where `steps` and `guidance` do not. `classes` is one class for all images or one for each (default: as the
    evaluation draws them). Latents are decoded by the autoencoder in the folder `vae` (default: the evaluation's, or
    $DIFFUSSM_VAE). Image i depends on the seed and i alone, not on `count`. Raises UserError for what does not fit the
    model.
    """
    given = {"vae": str(vae)} if str(vae) else {}
    if not isinstance(config, Config):
        path = Path(config).resolve()
        is_run = is_run_folder(path) or not is_model_folder(path)
        of_folder = {**given, **({} if guidance is None else {"guidance": guidance})}
        config = requested_config(RunDir(path), given) if is_run else folder_config(path, of_folder)
    if (model.config, model.outputs) != (config.model, config.outputs):
        raise UserError("config: does not match the given model")
    if count < 1:
        raise UserError(f"count = {count}: must be at least 1")
    tree = config.model_dump(mode="json")
    tree["seed"] = config.seed if seed is None else seed
    tree["evaluation"]["sampler_steps"] = config.evaluation.sampler_steps if steps is None else steps
    tree["evaluation"]["guidance"] = config.evaluation.guidance if guidance is None else guidance
    tree["evaluation"] |= given
    config = validate(tree, "sample")
    device, labels = next(model.parameters()).device, _labels(classes, count, config.model.classes)
    training = model.training
    model.eval()
    try:
        return generate(config, model, count, device, labels).pixels
    finally:
        model.train(training)


def evaluate(
    images: NDArray[np.uint8],
    reference: str,
    *,
    extractor: str = "",
    metrics: Sequence[str] = (),
    extractor_weights: Path | str = "",
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """Return the metrics of `images`, uint8 (N, C, H, W), against a reference; raise UserError for what does not fit.

    `reference` is a data set's name or an `.npz` in ADM's format. The extractor is by default the reference's own, the
    metrics all that extractor and reference give of images alone; `diffussm weights` lists files that extractors need.
    """
    if not isinstance(images, np.ndarray):
        raise UserError("images: must be an array, uint8 (N, C, H, W)")
    try:
        pixels = ArrayPixels(images)
    except ValueError as error:
        raise UserError(f"images: {error}") from None
    evaluation = external_config(pixels, reference, extractor, tuple(metrics), str(extractor_weights))
    return evaluate_external(pixels, evaluation, device).metrics


def _labels(classes: int | Sequence[int] | None, count: int, known: int) -> NDArray[np.int64] | None:
    """Return a label for each image, or None if they are to be drawn."""
    if classes is None:
        return None
    try:
        given = np.asarray(classes)
    except ValueError:  # rows of different lengths
        given = np.empty(0)
    labels = np.full(count, given) if given.ndim == 0 else given
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise UserError(f"classes: give one class, or {count} of them, as whole numbers")
    if wrong := [int(label) for label in labels if not 0 <= label < known]:
        allowed = f"0 to {known - 1}" if known else "none, the model is unconditional"
        raise UserError(f"classes: {wrong[0]}: allowed: {allowed}")
    return labels.astype(np.int64)


def _weights_in(run: RunDir, path: Path, kind: str) -> dict[str, Tensor]:
    """Return the weights in a file inside a run's folder: a milestone's, or those (ema | raw) of a checkpoint."""
    if path.suffix.lower() != ".safetensors":
        return checkpoints.weights_in(checkpoints.read(path, run.run_id), kind)
    step = path.parent.name
    if step.isdecimal() and path == run.weights(int(step), path.stem):
        return read_kept_weights(run, int(step), path.stem).tensors
    return read_weights(path).tensors
