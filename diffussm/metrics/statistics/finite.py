"""The check that features are finite numbers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffussm.errors import NotFinite
from diffussm.metrics.statistics.frechet import BLOCK


def finite(features: NDArray[Any], what: str, row: str, first: int = 0) -> NDArray[Any]:
    """Return the features (n, d), which are `what` of a `row`; raise NotFinite, which names the first row that is not
    finite, counted from `first`."""
    for start in range(0, len(features), BLOCK):
        rows = np.isfinite(features[start : start + BLOCK]).all(1)
        if not rows.all():
            raise NotFinite(f"{row} {first + start + int(rows.argmin())}: {what} are not finite")
    return features
