"""The Frechet distance between Gaussians fitted to two sets of features (Heusel et al. 2017), in float64."""

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Statistics(NamedTuple):
    mean: Array  # (d,)
    covariance: Array  # (d, d), with n - 1 in the denominator

    @classmethod
    def of(cls, features: Array) -> Self:
        """Of features (n, d), n >= 2."""
        return cls(features.mean(0), np.cov(features, rowvar=False))


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """|mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), in squared units of the features.

    The trace of the root is the sum of the roots of the eigenvalues of S_a^(1/2) S_b S_a^(1/2), which is symmetric and
    positive semi-definite: no complex arithmetic, and rank-deficient covariances are exact.
    """
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    product = root @ b.covariance @ root
    trace_of_root = np.sqrt(np.linalg.eigvalsh((product + product.T) / 2).clip(0)).sum()
    difference = a.mean - b.mean
    return float(difference @ difference + np.trace(a.covariance) + np.trace(b.covariance) - 2 * trace_of_root)
