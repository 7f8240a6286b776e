"""A reference's layer of given features, for what metrics compute from features alone."""

from typing import Never

import numpy as np
from numpy.typing import NDArray


class FeaturesOnly:
    """A ReferenceLayer without a Gaussian."""

    def __init__(self, features: NDArray[np.float32]):
        self.features = features

    @property
    def distance(self) -> Never:
        raise NotImplementedError

    @property
    def floor(self) -> None:
        return None
