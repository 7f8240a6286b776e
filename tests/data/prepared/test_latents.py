"""Latents of prepared data sets: what the network sees of them, to the digit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from diffussm.config import DataConfig, resolve, run_id
from diffussm.data.load import training_data
from diffussm.data.lookup.resolution import resolve_with_data
from diffussm.data.prepared.latents import PreparedLatents
from diffussm.data.prepared.manifest import read_manifest
from diffussm.data.prepared.reader import DamagedShard, PreparedImages
from diffussm.data.prepared.verify import find_damage
from diffussm.errors import UserError
from diffussm.rng import Stream, permutation, quantile_normal, uniform
from diffussm.training.batches import Batches
from tests.support.damage import flip
from tests.support.prepared_set import noise_images, write_latents, write_prepared

COUNT = 10
SHAPE = (2, 4, 4)


def moments(views: int = 1) -> NDArray[np.float32]:
    """Means and positive standard deviations, (COUNT, views, 2, C, h, w)."""
    drawn = np.random.default_rng(0).normal(size=(COUNT, views, 2, *SHAPE)).astype(np.float32)
    drawn[:, :, 1] = np.exp(drawn[:, :, 1] - 2)
    return drawn


def data_at(folder: Path, **fields: Any) -> DataConfig:
    return DataConfig(name="mine", root=str(folder), **fields)


def test_a_posterior_is_drawn_scaled_and_shifted(tmp_path: Path) -> None:
    """z = (mean + std e - shift) * scale, with e by (seed, step, sample)."""
    stored = moments()
    write_latents(tmp_path / "set", stored, scale=(0.5, 2.0), shift=(1.0, -3.0))
    batch = training_data(data_at(tmp_path / "set")).batch(3, 7, 6, 2, 4)
    e = quantile_normal(3, Stream.POSTERIOR, 7, 2, 4, SHAPE).astype(np.float64)
    chosen = [permutation(3, (7 * 6 + i) // COUNT, COUNT)[(7 * 6 + i) % COUNT] for i in range(2, 6)]
    mean, std = stored[chosen, 0, 0].astype(np.float64), stored[chosen, 0, 1].astype(np.float64)
    scale, shift = np.array([0.5, 2.0]).reshape(2, 1, 1), np.array([1.0, -3.0]).reshape(2, 1, 1)
    np.testing.assert_allclose(batch[0], (mean + std * e - shift) * scale, rtol=1e-5, atol=1e-6)
    assert batch[0].dtype == np.float32


def test_posteriors_are_drawn_anew_in_each_epoch(tmp_path: Path) -> None:
    write_latents(tmp_path / "set", moments())
    data = training_data(data_at(tmp_path / "set"))
    first, second = data.batch(0, 0, COUNT)[0], data.batch(0, 1, COUNT)[0]
    by_image = [values[np.argsort(permutation(0, epoch, COUNT))] for epoch, values in enumerate((first, second))]
    assert (by_image[0] != by_image[1]).mean() > 0.99
    np.testing.assert_array_equal(first, training_data(data_at(tmp_path / "set")).batch(0, 0, COUNT)[0])
    np.testing.assert_array_equal(first[4:7], data.batch(0, 0, COUNT, 4, 3)[0])


def test_what_is_mirrored_is_the_other_of_the_pair(tmp_path: Path) -> None:
    stored = moments(views=2)
    stored[:, :, 1] = 0  # no spread: what is trained on are the means
    write_latents(tmp_path / "set", stored, "paired", scale=(1.0,))
    mirrored = uniform(0, Stream.FLIP, 4, 0, COUNT) < 0.5
    assert 0 < mirrored.sum() < COUNT
    order = permutation(0, 4, COUNT)
    with_flips = training_data(data_at(tmp_path / "set", flip=True)).batch(0, 4, COUNT)[0]
    np.testing.assert_array_equal(with_flips, stored[order, mirrored.astype(int), 0])
    without = training_data(data_at(tmp_path / "set")).batch(0, 4, COUNT)[0]
    np.testing.assert_array_equal(without, stored[order, 0, 0])


@pytest.mark.parametrize(("flips", "advice"), [("none", "prepare them with --flips"), ("baked", "set it to false")])
def test_latents_cannot_be_mirrored(tmp_path: Path, flips: Any, advice: str) -> None:
    write_latents(tmp_path / "set", moments(), flips)
    with pytest.raises(UserError, match=rf"data\.flip = true: .* have flips: {flips}, .*{advice}"):
        training_data(data_at(tmp_path / "set", flip=True))


@pytest.mark.parametrize("scaled", [False, True])
def test_samples_are_as_they_are_stored(tmp_path: Path, scaled: bool) -> None:
    samples = moments()[:, :, 0]
    write_latents(tmp_path / "set", samples, "baked", scale=(0.5,), shift=(3.0,), scaled=scaled)
    found = training_data(data_at(tmp_path / "set")).batch(0, 0, COUNT)[0]
    expected = samples[permutation(0, 0, COUNT), 0]
    np.testing.assert_array_equal(found, expected if scaled else (expected - np.float32(3)) * np.float32(0.5))


def test_float16_is_read_as_it_is_stored(tmp_path: Path) -> None:
    stored = moments().astype(np.float16)
    write_latents(tmp_path / "set", stored)
    found = PreparedLatents(tmp_path / "set").stored(np.array([9, 0, 9]))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, stored[[9, 0, 9], 0].astype(np.float32))


def test_the_network_is_given_latents_and_noise_of_their_shape(tmp_path: Path) -> None:
    write_latents(tmp_path / "set", moments())
    config = resolve("digits", {"data.name": "mine", "data.root": str(tmp_path / "set")})
    data = training_data(config.data)
    batch = Batches(config, data).draw(0, 0, 5)
    np.testing.assert_array_equal(batch.images.numpy(), data.batch(0, 0, config.training.batch, 0, 5)[0])
    assert batch.noise.shape == (5, *SHAPE)


def test_a_plan_knows_what_the_manifest_says(tmp_path: Path) -> None:
    manifest = write_latents(tmp_path / "set", moments(), vae_sha256="a" * 64, baked=("one flip",), shift=(0.5, 0.25))
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        f'extends = "digits"\n[data]\nname = "mine"\nroot = "{tmp_path}/set"\n'
        '[evaluation]\nguidance = 1.0\nmetrics = ["fid"]\n'
    )
    config = resolve_with_data(str(recipe))
    assert (config.model.image_size, config.model.channels, config.model.classes) == (4, 2, 0)
    data = config.data
    assert (data.digest, data.decoded_size, data.transform) == (manifest.digest, 32, "centre-crop 32")
    assert (data.scale, data.shift, data.vae_range) == ((0.18215,), (0.5, 0.25), (-1.0, 1.0))
    assert (data.vae_sha256, data.baked) == ("a" * 64, ("one flip",))
    same = config.model_copy(update={"data": data.model_copy(update={"vae_sha256": "", "baked": (), "shift": ()})})
    assert run_id(same) == run_id(config)  # the digest is in the id, and says it already


def test_the_digest_is_of_what_training_reads(tmp_path: Path) -> None:
    digests = {
        write_latents(tmp_path / str(i), items, flips, **facts).digest
        for i, (items, flips, facts) in enumerate(
            [
                (moments(), "none", {}),
                (moments(), "none", {"scale": (0.2,)}),
                (moments(), "none", {"shift": (0.2,)}),
                (moments(), "none", {"scaled": True}),
                (moments(), "baked", {}),
                (moments().astype(np.float16), "none", {}),
                (moments()[:, :, 0], "none", {}),
            ]
        )
    }
    assert len(digests) == 7
    assert write_latents(tmp_path / "vae", moments(), vae_sha256="b" * 64, per_shard=3).digest in digests


def test_a_flipped_bit_is_found_in_the_view_that_is_used(tmp_path: Path) -> None:
    write_latents(tmp_path / "set", moments(views=2), "paired")
    latents = PreparedLatents(tmp_path / "set")
    view = 2 * 32 * 4  # bytes
    flip(tmp_path / "set" / "latents-00001.npy", 8 * (128 + view + 5))  # image 7, mirrored
    latents.stored(np.array([7]), 0)
    with pytest.raises(DamagedShard, match=r"latents-00001\.npy: is damaged at image 7"):
        latents.stored(np.array([7]), np.array([1]))
    assert find_damage(tmp_path / "set", lambda _: None) == [
        "latents-00001.npy: is damaged: its SHA-256 is not that of the manifest"
    ]


def test_kinds_are_not_mistaken(tmp_path: Path) -> None:
    write_latents(tmp_path / "latents", moments())
    write_prepared(tmp_path / "pixels", noise_images())
    with pytest.raises(UserError, match="holds latents, not images"):
        PreparedImages(tmp_path / "latents")
    with pytest.raises(UserError, match="holds images, not latents"):
        PreparedLatents(tmp_path / "pixels")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"mean-std"', '"pixels"'),
        ('"flips": "none"', '"flips": "paired"'),
        ("0.18215", "0.0"),
        ("0.18215", "0.1, 0.2, 0.3"),
        ("0.18215", "1e999"),
        ('"float32"', '"float64"'),
        ("-1.0,", "1.0,"),
    ],
)
def test_manifests_that_are_not_possible(tmp_path: Path, old: str, new: str) -> None:
    write_latents(tmp_path / "set", moments())
    path = tmp_path / "set" / "manifest.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match="set"):
        PreparedLatents(tmp_path / "set")


def test_what_a_recipe_states_must_be_so(tmp_path: Path) -> None:
    write_latents(tmp_path / "set", moments())
    with pytest.raises(UserError, match=r"data\.decoded_size = 64: mine in .* has 32"):
        training_data(data_at(tmp_path / "set", decoded_size=64))
    assert read_manifest(tmp_path / "set").item_shape == (1, 2, *SHAPE)
