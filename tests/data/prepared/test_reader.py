"""Prepared data sets are read as they were written, and never otherwise."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from diffussm.data.prepared.manifest import read_manifest
from diffussm.data.prepared.reader import PreparedImages
from diffussm.errors import UserError
from tests.support.prepared_set import noise_images, write_prepared

LABELS = np.arange(20) % 3
CLASSES = ("ant", "bee", "cat")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_prepared(tmp_path / "set", noise_images(), LABELS, CLASSES)
    return tmp_path / "set"


def test_images_are_those_that_were_written(folder: Path) -> None:
    images = PreparedImages(folder)
    assert (images.count, images.shape) == (20, (3, 8, 8))
    order = np.array([19, 0, 6, 7, 7, 13, 14])
    taken = images.take(order)
    assert np.array_equal(taken.pixels, noise_images()[order])
    assert np.array_equal(taken.labels, LABELS[order])
    assert np.array_equal(np.concatenate(list(images.batches(3, 2, 18))), noise_images()[2:18])


def test_numpy_alone_can_map_the_shards(folder: Path) -> None:
    shards = [np.load(file, mmap_mode="r") for file in sorted(folder.glob("pixels-*.npy"))]
    assert [len(shard) for shard in shards] == [7, 7, 6]
    assert np.array_equal(np.concatenate(shards), noise_images())


def test_the_digest_is_of_what_training_reads(folder: Path, tmp_path: Path) -> None:
    digest = read_manifest(folder).digest
    assert write_prepared(tmp_path / "other", noise_images(), LABELS, CLASSES, per_shard=20).digest == digest
    assert write_prepared(tmp_path / "names", noise_images(), LABELS, ("a", "b", "c")).digest == digest
    assert write_prepared(tmp_path / "values", noise_images(seed=1), LABELS, CLASSES).digest != digest
    assert write_prepared(tmp_path / "labels", noise_images(), 2 - LABELS, CLASSES).digest != digest
    assert write_prepared(tmp_path / "classes", noise_images(), LABELS, (*CLASSES, "dog")).digest != digest
    assert write_prepared(tmp_path / "shape", noise_images().reshape(20, 3, 4, 16), LABELS, CLASSES).digest != digest


@pytest.mark.parametrize("offset", [-1, 128, 128 + 192 * 3 + 5])
def test_a_flipped_bit_is_found_before_the_image_is_used(folder: Path, offset: int) -> None:
    path = folder / "pixels-00001.npy"
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)
    images = PreparedImages(folder)
    damaged = 13 if offset == -1 else 7 + (offset - 128) // 192
    intact = np.setdiff1d(np.arange(20), [damaged])
    assert np.array_equal(images.take(intact).pixels, noise_images()[intact])
    with pytest.raises(UserError, match=f"pixels-00001.npy: is damaged at image {damaged} of the data set"):
        images.take(np.array([0, damaged]))


@pytest.mark.parametrize("name", ["labels.npy", "sha256.npy"])
def test_damaged_labels_or_hashes_are_found_at_once(folder: Path, name: str) -> None:
    path = folder / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{name}.*damaged"):
        PreparedImages(folder)


def test_a_missing_shard_is_named(folder: Path) -> None:
    (folder / "pixels-00002.npy").unlink()
    images = PreparedImages(folder)
    images.take([0, 13])
    with pytest.raises(UserError, match=r"pixels-00002\.npy: no such file"):
        images.take([14])


def test_a_folder_without_a_manifest_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a prepared data set"):
        PreparedImages(tmp_path)


def test_a_fork_reads_while_a_thread_did(folder: Path) -> None:
    images = PreparedImages(folder)
    with images._lock:  # as in the middle of a batch
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            os._exit(int((images.take([3]).pixels == noise_images()[3]).all()))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
