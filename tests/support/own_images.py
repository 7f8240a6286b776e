"""A folder of anyone's images, and the commands of docs/own_images.md for it."""

import re
from pathlib import Path

import numpy as np
from PIL import Image

from diffussm.data.digits import scikit_learn_folder

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "own_images.md").read_text()
CLASSES = {"flower": "flower.jpg", "temple": "china.jpg"}


def write_crops(folder: Path, per_class: int = 120) -> None:
    """Write crops of scikit-learn's two photographs, of many sizes, as JPEG and PNG in a folder for each class."""
    for number, (name, photograph) in enumerate(CLASSES.items()):
        generator = np.random.default_rng(number)
        image = Image.open(scikit_learn_folder() / "datasets/images" / photograph).convert("RGB")
        (folder / name).mkdir(parents=True)
        for k in range(per_class):
            width, height = (int(side) for side in generator.integers(40, 160, 2))
            column, row = int(generator.integers(image.width - width)), int(generator.integers(image.height - height))
            crop = image.crop((column, row, column + width, row + height))
            crop.save(folder / name / f"{k:04d}.{'jpg' if k % 2 else 'png'}")


def commands() -> list[str]:
    """The commands of the page, in order."""
    return [line for block in re.findall(r"^```sh\n(.*?)^```", PAGE, flags=re.M | re.S) for line in block.splitlines()]


def write_folder(folder: Path) -> None:
    """Write what the page begins with: the images, the bases `mine.toml` and `flat.toml`, and the rooms of a clone."""
    write_crops(folder / "my_images")
    bases = re.findall(r"^```toml\n(.*?)^```", PAGE, flags=re.M | re.S)
    for name, base in zip(("mine.toml", "flat.toml"), bases, strict=True):
        (folder / name).write_text(base)
    for room in ("ablations", "reports"):
        (folder / room).symlink_to(ROOT / room)
