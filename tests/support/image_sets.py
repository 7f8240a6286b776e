"""Sets of images for tests, and the .npz files that hold or spoil them."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from diffussm.data.photos import Crops
from diffussm.data.pixels import Pixels, open_pixels
from diffussm.errors import UserError

SHAPE = (3, 5, 4)


def images(count: int, shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def crops(count: int, seed: int) -> NDArray[np.uint8]:
    """Samples, seed 0: of the training bands and paler; reference: of the others."""
    pixels = Crops(training=not seed).take(seed, 0, count)[0]
    return pixels if seed else (pixels * 0.75 + 50).astype(np.uint8)


def in_file(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))


def whole(pixels: Pixels) -> NDArray[np.uint8]:
    return np.concatenate(list(pixels.batches(7)))


def refused(path: Path, *words: str) -> None:
    """Opening and reading `path` is a UserError of one line, which begins with the path and has these words."""
    with pytest.raises(UserError) as caught:
        whole(open_pixels(path))
    assert str(caught.value).startswith(f"{path}")
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def outcome(path: Path, read: Callable[[], Any]) -> Any:
    """What `read` gives; None for a UserError that begins with the path."""
    try:
        return read()
    except UserError as error:
        if not str(error).startswith(f"{path}"):
            raise
        return None


def npy(array: NDArray[Any]) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def zipped(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
