"""Models stored in a folder as `config.json` and `model.safetensors`, and published models, read by one function."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffussm.config import ModelConfig, validate
from diffussm.errors import UserError
from diffussm.models.build import build_uninitialised
from diffussm.models.diffussm import DiffuSSM
from diffussm.models.dit import DiT
from diffussm.models.published import load_diffusers_dit, load_official_dit, read_config
from diffussm.models.stored import NOT_VERIFIABLE, Source, read_weights, write_weights
from diffussm.models.weights import load_weights
from diffussm.store.integrity.digest import ZEROS, is_intact, seal
from diffussm.store.integrity.stamp import FORMAT_VERSION, DamagedFile, Stamp
from diffussm.store.writing import to_json, write_atomically

FORMAT = 1
FORMER_FIELDS = {"diffussm", "outputs", "model"}  # of files without a digest
CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save_pretrained(
    model: DiT | DiffuSSM, folder: Path | str, *, run_id: str = "", step: int | None = None, kind: str = "model"
) -> None:
    """Write the model's config and weights to `folder`, which is created if needed.

    If the weights are those (`kind`: ema | raw) of a run at a step, the files say so.
    """
    folder = Path(folder)
    stamp = Stamp(run_id=run_id, step=step, kind=kind)
    digest = write_weights(folder / WEIGHTS, model.state_dict(), stamp)
    content = {
        "diffussm": FORMAT,
        "outputs": model.outputs,
        "model": model.config.model_dump(mode="json"),
        "source": model.source._asdict() if model.source else None,
        **stamp.model_dump(exclude={"sha256"}),
        "weights_sha256": digest,
        "sha256": ZEROS,
    }
    write_atomically(folder / CONFIG, seal(to_json(content)))


def from_pretrained(path: Path | str, backend: str = "auto", heads: int | None = None) -> DiT | DiffuSSM:
    """Return the model, in eval mode, in a folder of `save_pretrained` or of a Diffusers DiT, or an official DiT `.pt`.

    `backend` computes S4D. `heads` is needed for a `.pt` whose width is not that of a published size. Raises UserError
    for anything else, for weights that do not fit, and for files that are not as `save_pretrained` wrote them. The
    SHA-256 of another program's file is printed on stderr, and kept as the model's `source`.
    """
    path = Path(path)
    if path.is_file():
        return load_official_dit(path, heads)
    if not (path / CONFIG).exists() or "diffussm" not in (content := read_config(path)):
        return load_diffusers_dit(path)
    expected = _verified_digest(path / CONFIG, content)
    model = build_uninitialised(*_model_and_outputs(content, path), backend)
    try:
        weights = read_weights(path / WEIGHTS)
    except OSError as error:
        raise UserError(f"{path / WEIGHTS}: {error.strerror}") from None
    if (weights.origin.stamp.sha256 if weights.origin.stamp else "") != expected:
        raise DamagedFile(path / WEIGHTS, f"not the weights that {CONFIG} names; save the model again")
    if not expected:
        print(f"{path}: {NOT_VERIFIABLE}", file=sys.stderr, flush=True)
    load_weights(model, weights.tensors, str(path / WEIGHTS))
    if source := content.get("source"):
        model.source = Source(**source)
    return model.eval()


def _verified_digest(path: Path, content: Mapping[str, Any]) -> str:
    """Return the digest that the weights must state; "" in a config of an earlier version."""
    if content.keys() <= FORMER_FIELDS:
        return ""
    if content.get("format_version") != FORMAT_VERSION:
        found = content.get("format_version")
        raise DamagedFile(path, f"has format version {found}; this version of diffussm reads {FORMAT_VERSION}")
    if not is_intact(path.read_bytes()):
        raise DamagedFile(path, "its content does not have the SHA-256 that it states, or it states none")
    return str(content.get("weights_sha256"))


def _model_and_outputs(content: dict[str, Any], path: Path) -> tuple[ModelConfig, int]:
    if content["diffussm"] != FORMAT:
        raise UserError(f"{path / CONFIG}: format {content['diffussm']} is not supported; this version reads {FORMAT}")
    config = validate({"model": content.get("model", {})}, str(path / CONFIG)).model
    outputs = content.get("outputs")
    if type(outputs) is not int or outputs not in (config.channels, 2 * config.channels):
        allowed = f"{config.channels} (model.channels) or {2 * config.channels} (twice as many)"
        raise UserError(f"{path / CONFIG}: outputs = {outputs!r}; allowed: {allowed}")
    return config, outputs
