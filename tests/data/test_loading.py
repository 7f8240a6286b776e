"""The images of a training step: their order, flips, and prepared data sets as training reads them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffussm.config import DataConfig
from diffussm.data.images import Flipped, HeldImages, Images, Shuffled
from diffussm.data.load import training_data
from diffussm.data.prepared.manifest import read_manifest
from diffussm.errors import UserError
from diffussm.rng import Stream, permutation, uniform
from tests.support.prepared_set import noise_images, write_prepared

LABELS = np.arange(20) % 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_prepared(tmp_path / "set", noise_images(), LABELS, ("ant", "bee", "cat"))
    return tmp_path / "set"


def mine(folder: Path, **given: Any) -> DataConfig:
    return DataConfig(name="mine", root=str(folder), **given)


def held(count: int = 20) -> HeldImages:
    return HeldImages(Images(noise_images(count), np.arange(count) % 3))


def test_every_epoch_sees_every_image_once() -> None:
    data = Shuffled(held(1797))
    seen = np.concatenate([data.chosen(0, step * 100, 100) for step in range(36)])
    assert np.array_equal(seen[:1797], permutation(0, 0, 1797))
    assert np.array_equal(seen[1797 : 2 * 1797], permutation(0, 1, 1797))
    assert sorted(seen[:1797]) == sorted(seen[1797 : 2 * 1797]) == list(range(1797))
    assert (seen[:1797] != seen[1797 : 2 * 1797]).any()


def test_a_batch_may_be_longer_than_an_epoch() -> None:
    expected = np.concatenate([permutation(3, epoch, 20) for epoch in range(4)])
    assert np.array_equal(Shuffled(held()).chosen(3, 7, 60), expected[7:67])


def test_a_prepared_set_trains_as_the_same_images_in_memory(folder: Path) -> None:
    prepared, memory = training_data(mine(folder, digest=read_manifest(folder).digest)), Shuffled(held())
    for step in (0, 2, 1):  # the third batch of eight begins a new epoch
        for read, expected in zip(prepared.batch(5, step, 8), memory.batch(5, step, 8), strict=True):
            np.testing.assert_array_equal(read, expected)
        for read, expected in zip(prepared.batch(5, step, 8, 3, 2), memory.batch(5, step, 8), strict=True):
            np.testing.assert_array_equal(read, expected[3:5])


def test_other_images_than_the_run_s_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=rf"data.digest = {'0' * 64}: mine in .*set holds other images, with digest "):
        training_data(mine(folder, digest="0" * 64))


def test_flips_are_drawn_by_seed_step_and_sample() -> None:
    pixels, labels = Flipped(Shuffled(held())).batch(7, 3, 16)
    plain = Shuffled(held()).batch(7, 3, 16)
    mirrored = uniform(7, Stream.FLIP, 3, 0, 16) < 0.5
    assert mirrored.tolist() == [bool(int(bit)) for bit in "1101001111000001"]
    assert np.array_equal(labels, plain.labels)
    for flip, found, image in zip(mirrored, pixels, plain.pixels, strict=True):
        assert np.array_equal(found, image[:, :, ::-1] if flip else image)


@pytest.mark.parametrize("name", ["digits", "photos", "prepared"])
def test_flipped_batches_can_be_cut(name: str, folder: Path) -> None:
    plain, flipped = (
        training_data(mine(folder, flip=flip) if name == "prepared" else DataConfig(name=name, flip=flip))
        for flip in (False, True)
    )
    (whole, _), (unflipped, _) = flipped.batch(1, 2, 12), plain.batch(1, 2, 12)
    parts = [flipped.batch(1, 2, 12, start, 4)[0] for start in (0, 4, 8)]
    assert np.array_equal(np.concatenate(parts), whole)
    assert 0 < sum((a != b).any() for a, b in zip(whole, unflipped, strict=True)) < 12
    assert np.array_equal(plain.batch(1, 2, 12)[0], unflipped)
