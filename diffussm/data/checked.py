"""Training data from outside this package, whose batches are compared with what is stated of them."""

import numpy as np

from diffussm.data.catalogue import DataFacts
from diffussm.data.images import Examples, TrainingData
from diffussm.errors import UserError


class CheckedData:
    """The data of a class `name`; UserError for a batch that is not as its `facts` say."""

    def __init__(self, data: TrainingData, facts: DataFacts, name: str):
        self._data, self._facts, self._name = data, facts, name

    def batch(self, seed: int, step: int, size: int, start: int = 0, count: int | None = None) -> Examples:
        batch, facts = self._data.batch(seed, step, size, start, count), self._facts
        expected = (size - start if count is None else count, facts.channels, facts.image_size, facts.image_size)
        if not isinstance(batch, tuple) or len(batch) != 2:
            raise self._error(f"returned {type(batch).__name__}, expected Images or Examples (diffussm.data.images)")
        values, labels = batch
        if not isinstance(values, np.ndarray) or values.dtype not in (np.uint8, np.float32) or values.shape != expected:
            raise self._error(f"returned {_described(values)}, expected uint8 or float32 {expected}")
        if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu" or labels.shape != expected[:1]:
            raise self._error(f"returned labels {_described(labels)}, expected int64 {expected[:1]}")
        labels = labels.astype(np.int64, copy=False)
        if facts.classes and len(labels) and not 0 <= labels.min() <= labels.max() < facts.classes:
            raise self._error(f"returned labels {labels.min()} .. {labels.max()}, expected 0 .. {facts.classes - 1}")
        return Examples(values, labels)

    def _error(self, what: str) -> UserError:
        return UserError(f"data.name = {self._name!r}: its batch() {what}")


def _described(array: object) -> str:
    return f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
