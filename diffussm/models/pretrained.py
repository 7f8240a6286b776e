"""Models stored in a folder as `config.json` and `model.safetensors`, and published models, read by one function.

`config.json` states diffusion and data of a run's model, so that it can be sampled from as it was trained.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from diffussm.config import DataConfig, DiffusionConfig, ModelConfig, validate
from diffussm.errors import UserError
from diffussm.models.build import build_uninitialised
from diffussm.models.diffussm import DiffuSSM
from diffussm.models.dit import DiT
from diffussm.models.published import describe_diffusers_dit, load_diffusers_dit, load_official_dit, read_config
from diffussm.models.stored import NOT_VERIFIABLE, Source, read_weights, write_weights
from diffussm.models.weights import load_weights
from diffussm.store.integrity.digest import ZEROS, is_intact, seal
from diffussm.store.integrity.stamp import FORMAT_VERSION, DamagedFile, Stamp
from diffussm.store.writing import to_json, write_atomically

FORMAT = 1
FORMER_FIELDS = {"diffussm", "outputs", "model"}  # of files without a digest
CONFIG, WEIGHTS = "config.json", "model.safetensors"
_STATED = ("diffusion", "data")  # sections of the config of a run's model


class Description(NamedTuple):
    """What a folder says of its model without its weights."""

    model: ModelConfig
    outputs: int
    diffusion: DiffusionConfig | None = None  # that it was trained with; None: not stated
    data: DataConfig | None = None  # that it was trained on; None: not stated
    kind: str = ""  # ema or raw weights; "": not known


class Loaded(NamedTuple):
    """A model and the file of its weights."""

    model: DiT | DiffuSSM
    weights: Path
    sha256: str  # as sha256sum prints it
    stamp: Stamp | None  # None: of another program, or an earlier version


def save_pretrained(
    model: DiT | DiffuSSM,
    folder: Path | str,
    *,
    run_id: str = "",
    step: int | None = None,
    kind: str = "model",
    diffusion: DiffusionConfig | None = None,
    data: DataConfig | None = None,
) -> None:
    """Write the model's config and weights to `folder`, which is created if needed, with what it was trained with and
    on, if that is known.

    If the weights are those (`kind`: ema | raw) of a run at a step, the files say so.
    """
    folder = Path(folder)
    stamp = Stamp(run_id=run_id, step=step, kind=kind)
    digest = write_weights(folder / WEIGHTS, model.state_dict(), stamp)
    content = {
        "diffussm": FORMAT,
        "outputs": model.outputs,
        "model": model.config.model_dump(mode="json"),
        **({"diffusion": diffusion.model_dump(mode="json")} if diffusion else {}),
        **({"data": data.model_dump(mode="json", exclude={"root"})} if data else {}),
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
    return load_pretrained(path, backend, heads).model


def describe_pretrained(folder: Path) -> Description:
    """Return what a folder of `save_pretrained`, or of a Diffusers DiT, says of its model; UserError for another."""
    if not _is_ours(folder):
        return Description(*describe_diffusers_dit(folder))
    content = read_config(folder)
    _verified_digest(folder / CONFIG, content)
    return _description(content, folder)


def load_pretrained(path: Path | str, backend: str = "auto", heads: int | None = None) -> Loaded:
    """Return the model as `from_pretrained`, with the file of its weights."""
    path = Path(path)
    if path.is_file() or not _is_ours(path):
        theirs = load_official_dit(path, heads) if path.is_file() else load_diffusers_dit(path)
        assert theirs.source
        return Loaded(theirs, Path(theirs.source.file), theirs.source.sha256, None)
    content = read_config(path)
    expected = _verified_digest(path / CONFIG, content)
    described = _description(content, path)
    model = build_uninitialised(described.model, described.outputs, backend)
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
    return Loaded(model.eval(), path / WEIGHTS, weights.origin.sha256, weights.origin.stamp)


def is_model_folder(path: Path) -> bool:
    """Return whether the folder says that it holds a model that `from_pretrained` reads."""
    folder = path / "transformer" if (path / "transformer").is_dir() else path
    if not (folder / CONFIG).is_file():
        return False
    content = read_config(folder)
    return "diffussm" in content or "_class_name" in content


def _is_ours(folder: Path) -> bool:
    return (folder / CONFIG).exists() and "diffussm" in read_config(folder)


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


def _description(content: dict[str, Any], path: Path) -> Description:
    if content["diffussm"] != FORMAT:
        raise UserError(f"{path / CONFIG}: format {content['diffussm']} is not supported; this version reads {FORMAT}")
    stated = {name: content[name] for name in _STATED if name in content}
    tree = {"model": content.get("model", {}), **stated, "evaluation": {"sampler": "ddpm", "sampler_steps": 1}}
    config = validate(tree, str(path / CONFIG))
    outputs, channels = content.get("outputs"), config.model.channels
    if type(outputs) is not int or outputs not in (channels, 2 * channels):
        allowed = f"{channels} (model.channels) or {2 * channels} (twice as many)"
        raise UserError(f"{path / CONFIG}: outputs = {outputs!r}; allowed: {allowed}")
    diffusion = config.diffusion if "diffusion" in content else None
    data = config.data if "data" in content else None
    kind = content.get("kind")
    return Description(config.model, outputs, diffusion, data, kind if kind in ("ema", "raw") else "")
