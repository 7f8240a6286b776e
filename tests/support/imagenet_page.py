"""What docs/imagenet.md begins with, on a tiny scale, and its commands."""

import re
import tarfile
from pathlib import Path

import numpy as np

from diffussm.data.preparing.images import SourceImages
from diffussm.data.preparing.recipe import Options
from tests.support import own_images
from tests.support.tiny_vae import tiny_vae

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "imagenet.md").read_text()
WNIDS = {"flower": "n01440764", "temple": "n01443537"}
REFERENCE = "VIRTUAL_imagenet256_labeled.npz"


def commands() -> list[str]:
    """The commands of the page, in order."""
    return [line for block in re.findall(r"^```sh\n(.*?)^```", PAGE, flags=re.M | re.S) for line in block.splitlines()]


def write_start(folder: Path, per_class: int, size: int) -> None:
    """Write ImageNet's tar with `per_class` images of two classes, a reference of them at this size, a random
    autoencoder, the page's base, and the rooms of a clone."""
    own_images.write_crops(folder / "crops", per_class)
    images = SourceImages(folder / "crops", Options(image_size=size))
    np.savez(folder / REFERENCE, np.concatenate(list(images.batches(100))).transpose(0, 2, 3, 1))
    with tarfile.open(folder / "ILSVRC2012_img_train.tar", "w") as outer:
        for name, wnid in WNIDS.items():
            with tarfile.open(folder / f"{wnid}.tar", "w") as inner:
                for number, path in enumerate(sorted((folder / "crops" / name).iterdir())):
                    inner.add(path, f"{wnid}_{number}.JPEG")
            outer.add(folder / f"{wnid}.tar", f"{wnid}.tar")
            (folder / f"{wnid}.tar").unlink()
    tiny_vae(folder / "sd-vae-ft-ema")
    (base,) = re.findall(r"^```toml\n(.*?)^```", PAGE, flags=re.M | re.S)
    (folder / "paper256.toml").write_text(base)
    for room in ("ablations", "reports"):
        (folder / room).symlink_to(ROOT / room)
