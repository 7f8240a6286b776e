"""The point from which one curve stays above another."""

import numpy as np
from numpy.typing import ArrayLike


def crossover(lengths: ArrayLike, rising: ArrayLike, other: ArrayLike) -> float | None:
    """Return the length from which `rising` stays above `other`, interpolated linearly in log-log coordinates; None if
    there is none within the given lengths.

    lengths (n,) increasing, rising (n,) and other (n,): all positive.
    """
    at, gap = np.log(np.asarray(lengths, dtype=float)), np.log(np.asarray(rising, dtype=float) / np.asarray(other))
    not_above = np.flatnonzero(gap <= 0)
    if len(not_above) == 0 or not_above[-1] == len(gap) - 1:
        return None
    i = not_above[-1]
    return float(np.exp(at[i] - gap[i] * (at[i + 1] - at[i]) / (gap[i + 1] - gap[i])))
