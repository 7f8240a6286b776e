"""Images of .npz files in pieces: what streams is what NumPy loads, and a spoiled file is an error of one line."""

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from diffussm.data.pixels import ArrayPixels, NpzPixels, open_pixels
from diffussm.errors import UserError
from diffussm.store.hashes import file_sha256
from tests.support.image_sets import images, in_file, npy, outcome, refused, whole, zipped

Save = Callable[..., None]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_stream_is_what_numpy_loads(tmp_path: Path, save: Save, data: st.DataObject) -> None:
    count, channels = data.draw(st.integers(1, 9)), data.draw(st.sampled_from([1, 3]))
    pixels = images(count, (channels, 5, 4))
    save(tmp_path / "a.npz", in_file(pixels), labels=np.arange(count))
    start = data.draw(st.integers(0, count))
    stop = data.draw(st.none() | st.integers(start, count))
    size = data.draw(st.integers(1, count + 2))
    found = NpzPixels(tmp_path / "a.npz")
    assert (found.count, found.shape) == (count, (channels, 5, 4))
    batches = list(found.batches(size, start, stop))
    loaded = np.load(tmp_path / "a.npz")["arr_0"].transpose(0, 3, 1, 2)[start:stop]
    assert [len(batch) for batch in batches] == [
        min(size, len(loaded) - first) for first in range(0, len(loaded), size)
    ]
    np.testing.assert_array_equal(np.concatenate([loaded[:0], *batches]), loaded)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_batches_larger_than_a_block(tmp_path: Path, save: Save) -> None:
    pixels = images(5, (3, 512, 512))  # 786,432 bytes each: blocks end inside images
    save(tmp_path / "a.npz", in_file(pixels))
    for start in (0, 2):
        read = np.concatenate(list(NpzPixels(tmp_path / "a.npz").batches(2, start)))
        np.testing.assert_array_equal(read, pixels[start:])


def test_a_zip_behind_other_bytes(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", in_file(images(4)))
    moved = tmp_path / "b.npz"
    moved.write_bytes(b"#!/bin/sh\n" + (tmp_path / "a.npz").read_bytes())
    np.testing.assert_array_equal(np.concatenate(list(NpzPixels(moved).batches(2, 1))), images(4)[1:])


@pytest.mark.parametrize(("size", "start", "stop"), [(0, 0, None), (1, -1, None), (1, 3, 2), (1, 0, 5), (1, 5, None)])
def test_no_such_images(tmp_path: Path, size: int, start: int, stop: int | None) -> None:
    np.savez(tmp_path / "a.npz", in_file(images(4)))
    for pixels in (ArrayPixels(images(4)), NpzPixels(tmp_path / "a.npz")):
        with pytest.raises(ValueError, match="there are 4 images"):
            list(pixels.batches(size, start, stop))


def test_absent(tmp_path: Path) -> None:
    refused(tmp_path / "a.npz", "no such file")
    with pytest.raises(UserError, match="no such file"):
        file_sha256(tmp_path / "a.npz")


def test_no_zip(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for content in (b"", b"not a zip", npy(in_file(images(4)))):
        path.write_bytes(content)
        refused(path, "damaged or not an .npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_truncated_anywhere(tmp_path: Path, save: Save) -> None:
    path = tmp_path / "a.npz"
    save(path, in_file(images(4)), more=np.arange(3))
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        refused(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_any_flipped_byte_is_refused_or_changes_nothing(tmp_path: Path, save: Save) -> None:
    path = tmp_path / "a.npz"
    save(path, in_file(images(4)))
    content = path.read_bytes()
    refusals = 0
    for place in range(len(content)):
        for flip in (0x01, 0x80, 0xFF):
            path.write_bytes(content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :])
            read = outcome(path, lambda: whole(open_pixels(path)))
            refusals += read is None
            np.testing.assert_array_equal(images(4) if read is None else read, images(4))
    assert refusals > 3 * images(4).size * 0.9


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_crc(tmp_path: Path, save: Save) -> None:
    path = tmp_path / "a.npz"
    save(path, in_file(images(4)))
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        crc = struct.pack("<I", archive.getinfo("arr_0.npy").CRC)
    place = content.rindex(crc)  # in the central directory
    content[place] ^= 1
    path.write_bytes(content)
    refused(path, "CRC")


def test_changed_since_it_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for start in (0, 3):
        np.savez(path, in_file(images(4)))
        pixels = NpzPixels(path)
        content = path.read_bytes()
        path.write_bytes(content[:300] + content[-150:])
        with pytest.raises(UserError, match=r"a\.npz: has been replaced or changed"):
            list(pixels.batches(1, start))
        with pytest.raises(UserError, match=r"a\.npz: has been replaced or changed"):
            _ = pixels.sha256


def test_without_arr_0(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", mu=np.zeros(3), sigma=np.eye(3))
    refused(tmp_path / "a.npz", "no array arr_0", "it holds mu, sigma")
    np.savez(tmp_path / "a.npz")
    refused(tmp_path / "a.npz", "no array arr_0", "holds nothing")
    np.savez(tmp_path / "a.npz", **{f"a{i}": np.zeros(1) for i in range(9)})
    refused(tmp_path / "a.npz", "a7, ...")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), ["float32", "uint8", "0 .. 1 must be scaled"]),
        (np.zeros((2, 4, 4, 3), np.int64), ["int64", "uint8"]),
        (np.zeros((2, 4, 4, 3), bool), ["bool", "uint8"]),
        (np.zeros((4, 4, 3), np.uint8), ["shape (4, 4, 3)", "(N, H, W, C)"]),
        (np.zeros((2, 3, 4, 4), np.uint8), ["shape (2, 3, 4, 4)", "(N, H, W, C)"]),
        (np.zeros((2, 4, 4, 3), np.uint8, order="F"), ["Fortran"]),
        (np.zeros((0, 4, 4, 3), np.uint8), ["no images"]),
        (np.zeros((2, 0, 4, 3), np.uint8), ["no images"]),
    ],
    ids=lambda value: f"{value.dtype}-{value.shape}" if isinstance(value, np.ndarray) else "",
)
def test_other_arrays(tmp_path: Path, array: NDArray[Any], words: list[str]) -> None:
    np.savez(tmp_path / "a.npz", array)
    refused(tmp_path / "a.npz", "arr_0", *words)


def test_other_compression(tmp_path: Path) -> None:
    zipped(tmp_path / "a.npz", {"arr_0.npy": npy(in_file(images(4)))}, zipfile.ZIP_LZMA)
    refused(tmp_path / "a.npz", "allowed: stored, deflated")
