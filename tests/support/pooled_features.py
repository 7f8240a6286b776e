"""Random features that tests of several metrics share."""

import numpy as np
from numpy.typing import NDArray


def pooled(generator: np.random.Generator, n: int, d: int, shift: float = 0.0) -> NDArray[np.float32]:
    """Features as Inception's pooled ones: correlated, not negative, means about 0.4."""
    latent = generator.normal(shift, 1, (n, 12)) @ np.random.default_rng(99).normal(size=(12, d)) / 12**0.5
    return (0.4 * np.abs(latent + 0.5 * generator.normal(size=(n, d)))).astype(np.float32)


def column(*values: float) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32)[:, None]
