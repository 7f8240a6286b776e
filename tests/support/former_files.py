"""Files as versions wrote them that knew no digests."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def checkpoint(path: Path) -> None:
    """Make a checkpoint one of before."""
    torch.save(torch.load(path, weights_only=True), path)


def weights(path: Path) -> None:
    """Make a milestone's weights those of before."""
    save_file(load_file(path), path)


def model_folder(folder: Path) -> None:
    """Make a folder of `save_pretrained` one of before."""
    save_file(load_file(folder / "model.safetensors"), folder / "model.safetensors", metadata={"format": "pt"})
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({name: content[name] for name in ("diffussm", "outputs", "model")}))


def record(path: Path) -> None:
    """Make a record one of before."""
    content = json.loads(path.read_text())
    new = ("format_version", "sha256", "weights_sha256", "weights_verifiable")
    path.write_text(json.dumps({name: value for name, value in content.items() if name not in new}, indent=1))
