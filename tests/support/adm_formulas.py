"""What ADM's evaluator computes from features (Dhariwal and Nichol 2021, evaluations/evaluator.py), in plain NumPy.

The oracle of the metrics: an independent computation, with float32 and float16 where the evaluator has them. Slow.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import sqrtm

Array = NDArray[np.float64]
Features = NDArray[np.float32]

NEIGHBOURS = 3
SPLIT = 5000
LARGEST_HALF = float(np.finfo(np.float16).max)


def statistics(features: Features) -> tuple[Array, Array]:
    """Mean (d,) and covariance (d, d) with n - 1."""
    return np.mean(features, axis=0), np.cov(features, rowvar=False)


def frechet(a: tuple[Array, Array], b: tuple[Array, Array], eps: float = 1e-6) -> float:
    """By the root of the product of covariances; eps on both diagonals where that root is not finite."""
    (mean_a, cov_a), (mean_b, cov_b) = a, b
    root = sqrtm(cov_a @ cov_b)
    if not np.isfinite(root).all():
        ridge = eps * np.eye(len(mean_a))
        root = sqrtm((cov_a + ridge) @ (cov_b + ridge))
    if np.iscomplexobj(root):
        assert np.abs(np.diagonal(root).imag).max() <= 1e-3
        root = root.real
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * np.trace(root))


def inception_score(logits: Features) -> float:
    """Mean over splits of 5,000 in order, the last one shorter; float32 as the graph's softmax."""
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    p = shifted / shifted.sum(1, keepdims=True)
    scores = []
    for start in range(0, len(p), SPLIT):
        part = p[start : start + SPLIT]
        divergence = (part * (np.log(part) - np.log(part.mean(0)))).sum(1)
        scores.append(np.exp(divergence.mean()))
    return float(np.mean(scores))


def squared_distances(u: Features, v: Features, half: bool = True) -> NDArray[np.float32]:
    """|u|^2 - 2 u.v + |v|^2, not below 0: in float16, or, if that overflows anywhere, in float32. (n, m)."""
    if half and max(np.square(x).sum(1).max() for x in (u, v)) <= LARGEST_HALF:
        rounded = _expanded(u.astype(np.float16), v.astype(np.float16))
        if np.isfinite(rounded).all():
            return rounded.astype(np.float32)
    return _expanded(u, v)


def _expanded(u: NDArray, v: NDArray) -> NDArray:
    """In the type of u: products summed in float32, as a GPU does, and then rounded."""
    kind, u, v = u.dtype, u.astype(np.float32), v.astype(np.float32)
    of_u, of_v = (np.square(x).sum(1).astype(kind) for x in (u, v))
    twice = 2 * (u @ v.T).astype(kind)
    return np.maximum(of_u[:, None] - twice + of_v, kind.type(0))


def radii(features: Features, half: bool = True) -> NDArray[np.float32]:
    """Squared distance to the third neighbour; the nearest of all is the image itself. (n,)."""
    return np.sort(squared_distances(features, features, half), axis=1)[:, NEIGHBOURS]


def precision_recall(samples: Features, reference: Features, half: bool = True) -> tuple[float, float]:
    """Share of samples in the reference's manifold, share of the reference in the samples'."""
    distances = squared_distances(samples, reference, half)  # (n, m)
    precision = (distances <= radii(reference, half)).any(1).mean()
    recall = (distances <= radii(samples, half)[:, None]).any(0).mean()
    return float(precision), float(recall)
