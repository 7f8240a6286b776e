"""Writing of ADM's .npz files: atomically, and equal content as equal bytes."""

import io
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffussm.data.pixels.base import Shape
from diffussm.store.writing import flush_to_disk, temporary_beside


def write_npz(
    path: Path, shape: Shape, count: int, batches: Iterable[NDArray[np.uint8]], /, **arrays: ArrayLike
) -> None:
    """Write `count` images of `shape`, from batches (n, C, H, W), and `arrays` as ADM's .npz, atomically.

    Equal content gives equal bytes. Without images (count 0) there is no `arr_0`. ValueError for another number of
    images, another shape or type, or an array of objects.
    """
    if "arr_0" in arrays:
        raise ValueError("arr_0 is reserved for the images")
    with temporary_beside(path) as temporary:
        with temporary.open("xb") as file:
            with zipfile.ZipFile(file, "w") as archive:
                _write_images(archive, shape, count, batches)
                for name in sorted(arrays):
                    with _new_member(archive, name) as member:
                        np.lib.format.write_array(member, np.asarray(arrays[name], order="C"), allow_pickle=False)
            flush_to_disk(file)
        os.replace(temporary, path)


def _new_member(archive: zipfile.ZipFile, name: str) -> Any:
    info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
    info.create_system = 3  # the same bytes everywhere
    return archive.open(info, "w", force_zip64=True)


def _write_images(archive: zipfile.ZipFile, shape: Shape, count: int, batches: Iterable[NDArray[np.uint8]]) -> None:
    channels, height, width = shape
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, height, width, channels)}
    missing = count
    with _new_member(archive, "arr_0") if count else io.BytesIO() as member:
        np.lib.format.write_array_header_1_0(member, header)
        for batch in batches:
            if batch.dtype != np.uint8 or batch.shape[1:] != shape:
                raise ValueError(f"a batch is {batch.dtype} {batch.shape}: images are uint8 {shape}")
            missing -= len(batch)
            if missing < 0:
                break
            member.write(np.ascontiguousarray(batch.transpose(0, 2, 3, 1)).data)  # (n, H, W, C)
    if missing:
        raise ValueError(f"{'more' if missing < 0 else f'{count - missing}'} images than the {count} announced")
