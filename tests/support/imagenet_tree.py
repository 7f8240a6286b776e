"""A small ImageNet: crops of photographs in its layout, an autoencoder, and a base on their latents."""

import contextlib
import os
import shlex
import sys
from pathlib import Path
from unittest import mock

from diffussm import cli
from tests.support import forked
from tests.support.own_images import write_crops
from tests.support.tiny_vae import tiny_vae

ROOT = Path(__file__).parents[2]
WNIDS = {"flower": "n11939491", "temple": "n03877845"}
BASE = """
extends = "{extends}"

[sizes.diffussm]
XL = {{ depth = 2, width = 16, heads = 2 }}

[data]
name = "{name}"
root = "{root}"
flip = {flip}

[training]
batch = 16
lr = 1e-3
ema = 0.9
precision = "float32"
threads = 1
steps = 40
milestones = [20, 40]

[evaluation]
vae = "vae"
extractor = "images-cnn.safetensors"
reference = "{reference}"
metrics = ["fid", "precision"{label_accuracy}]
samples = 40
batch = 20
sampler_steps = 4
"""


def write_tree(folder: Path, per_class: int = 120) -> None:
    """Write `train/<wnid>/<wnid>_<n>.JPEG`, 240 crops, and a random autoencoder `vae` that divides sides by 4."""
    write_crops(folder / "crops", per_class)
    for name, wnid in WNIDS.items():
        (folder / "train" / wnid).mkdir(parents=True)
        for number, crop in enumerate(sorted((folder / "crops" / name).iterdir())):
            crop.rename(folder / "train" / wnid / f"{wnid}_{number}.JPEG")
    tiny_vae(folder / "vae", blocks=3)


def write_base(folder: Path, name: str, root: str, flip: bool = True) -> Path:
    """Write a base on the latents in `root`, with classes, measured on images of 32 x 32."""
    return _write(folder, name, root, flip, "imagenet256", "images.npz", ', "label_accuracy"')


def write_base_without_classes(folder: Path, name: str, root: str, reference: str) -> Path:
    return _write(folder, name, root, True, "lsun_church", reference, "")


def _write(folder: Path, name: str, root: str, flip: bool, extends: str, reference: str, label_accuracy: str) -> Path:
    path = folder / f"{name}.toml"
    settings = {"name": name, "root": root, "flip": str(flip).lower(), "extends": extends, "reference": reference}
    path.write_text(BASE.format(**settings, label_accuracy=label_accuracy))
    return path


def run(folder: Path, command: str) -> None:
    """Run a command of the docs in the folder; it must succeed."""
    program, *words = shlex.split(command)
    environment = {"DIFFUSSM_CACHE": str(folder / "cache")}
    if program == "diffussm":
        with (
            contextlib.chdir(folder),
            mock.patch.dict(os.environ, environment),
            mock.patch("sys.argv", [program, *words]),
        ):
            assert cli.main() == 0, command
        return
    script = [sys.executable, str(ROOT / words[0]), *words[1:]]
    done = forked.run(script, cwd=folder, env={**os.environ, **environment})
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def prepare(folder: Path) -> None:
    """Prepare images and latents, an extractor and a reference of the images."""
    run(folder, "diffussm data prepare train images --image-size 32")
    run(folder, "diffussm data prepare train latents --image-size 32 --vae vae --flips --batch 16")
    run(folder, "diffussm extractor train images --epochs 2")
    run(folder, "diffussm reference build images images.npz --extractor images-cnn.safetensors")
