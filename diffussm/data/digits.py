"""The embedded data set: scikit-learn's 1,797 handwritten digits (UCI "Optical Recognition of Handwritten Digits").

8 x 8 pixels, one channel, grey levels 0 .. 16 scaled to bytes. All of them train and all of them are the reference.
The file is read where scikit-learn installs it: importing the package takes seconds, in every process of a grid.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from diffussm.data.images import Images
from diffussm.errors import UserError


def load() -> Images:
    package = find_spec("sklearn")
    if package is None or not package.origin:
        raise UserError("data.name = digits: needs scikit-learn, which ships the images")
    table = np.loadtxt(Path(package.origin).parent / "datasets/data/digits.csv.gz", delimiter=",", dtype=np.int64)
    pixels = np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8)
    return Images(pixels.reshape(-1, 1, 8, 8), table[:, -1])
