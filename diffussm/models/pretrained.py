"""Models stored in a folder as `config.json` and `model.safetensors`, and published models, read by one function."""

from pathlib import Path
from typing import Any

from safetensors.torch import save

from diffussm.config import ModelConfig, validate
from diffussm.errors import UserError
from diffussm.models.build import build_uninitialised
from diffussm.models.diffussm import DiffuSSM
from diffussm.models.dit import DiT
from diffussm.models.published import load_diffusers_dit, load_official_dit, read_config
from diffussm.models.weights import load_weights, read_safetensors
from diffussm.store.writing import to_json, write_atomically

FORMAT = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save_pretrained(model: DiT | DiffuSSM, folder: Path | str) -> None:
    """Write the model's config and weights to `folder`, which is created if needed."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    write_atomically(folder / WEIGHTS, save(weights, metadata={"format": "pt"}))
    content = {"diffussm": FORMAT, "outputs": model.outputs, "model": model.config.model_dump(mode="json")}
    write_atomically(folder / CONFIG, to_json(content))


def from_pretrained(path: Path | str, backend: str = "auto", heads: int | None = None) -> DiT | DiffuSSM:
    """Return the model, in eval mode, in a folder of `save_pretrained` or of a Diffusers DiT, or an official DiT `.pt`.

    `backend` computes S4D. `heads` is needed for a `.pt` whose width is not that of a published size. Raises UserError
    for anything else, and for weights that do not fit.
    """
    path = Path(path)
    if path.is_file():
        return load_official_dit(path, heads)
    if not (path / CONFIG).exists() or "diffussm" not in (content := read_config(path)):
        return load_diffusers_dit(path)
    model = build_uninitialised(*_model_and_outputs(content, path), backend)
    load_weights(model, read_safetensors(path / WEIGHTS), str(path / WEIGHTS))
    return model.eval()


def _model_and_outputs(content: dict[str, Any], path: Path) -> tuple[ModelConfig, int]:
    if content["diffussm"] != FORMAT:
        raise UserError(f"{path / CONFIG}: format {content['diffussm']} is not supported; this version reads {FORMAT}")
    config = validate({"model": content.get("model", {})}, str(path / CONFIG)).model
    outputs = content.get("outputs")
    if type(outputs) is not int or outputs not in (config.channels, 2 * config.channels):
        allowed = f"{config.channels} (model.channels) or {2 * config.channels} (twice as many)"
        raise UserError(f"{path / CONFIG}: outputs = {outputs!r}; allowed: {allowed}")
    return config, outputs
