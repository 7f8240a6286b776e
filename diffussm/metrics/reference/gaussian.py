"""The Gaussian that a reference file states for a layer, checked where it is read."""

import contextlib
from pathlib import Path

import numpy as np

from diffussm.data.pixels import read_arrays
from diffussm.errors import UserError
from diffussm.metrics.reference.file import STATISTICS
from diffussm.metrics.statistics.frechet import Array, Statistics

TOLERANCE = 1e-5  # of the largest variance or eigenvalue: what sums in float32 may be off


def stated_gaussian(path: Path, layer: str) -> Statistics:
    """Return the Gaussian of a layer from a file; raise UserError if the file lacks it, or if it is not one of real
    features: finite, with a symmetric covariance that has no negative eigenvalue beyond rounding."""
    names = STATISTICS[layer]
    arrays = read_arrays(path, names)
    if missing := [name for name in names if name not in arrays]:
        raise UserError(f"{path}: lacks {' and '.join(missing)}; `diffussm reference build` adds them")
    if wrong := [name for name in names if arrays[name].dtype.kind not in "fiu"]:
        raise UserError(f"{path}: {wrong[0]} is {arrays[wrong[0]].dtype}; allowed: real numbers")
    mean, covariance = (np.asarray(arrays[name], dtype=np.float64) for name in names)
    if mean.ndim != 1 or not mean.size or covariance.shape != mean.shape * 2:
        raise UserError(f"{path}: {names[0]} of shape {mean.shape} and {names[1]} of {covariance.shape} do not fit")
    if problem := _problem(covariance):
        raise UserError(f"{path}: {names[1]} is no covariance: {problem}; `diffussm reference build` computes it anew")
    return Statistics(mean, covariance)


def _problem(covariance: Array) -> str:
    """Return why no features have this covariance (d, d); "" if some have."""
    largest_variance = float(np.abs(np.diag(covariance)).max())
    asymmetry = float(np.abs(covariance - covariance.T).max())
    if asymmetry > TOLERANCE * largest_variance:
        scale = f"variances are up to {largest_variance:.3g}"
        return f"it is not symmetric (opposite entries differ by up to {asymmetry:.3g}, {scale})"
    with contextlib.suppress(np.linalg.LinAlgError):
        np.linalg.cholesky(covariance)  # succeeds if all eigenvalues are positive, and is much faster than they are
        return ""
    eigenvalues = np.linalg.eigvalsh(covariance)
    smallest, largest = float(eigenvalues[0]), float(eigenvalues[-1])
    if smallest < -TOLERANCE * max(largest, 0.0):
        return f"it has a negative eigenvalue ({smallest:.3g}, the largest is {largest:.3g})"
    return ""
