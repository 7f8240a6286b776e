"""From images to training batches and back, through an autoencoder of known mean, standard deviation and range.

The expected values are computed from the images alone, and any two things that are exchanged make the check fail.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from diffussm.config import DataConfig
from diffussm.data.load import training_data
from diffussm.data.prepared.decoded import DecodedLatents
from diffussm.data.prepared.latents import PreparedLatents
from diffussm.data.prepared.manifest import LatentFacts, Manifest, read_manifest
from diffussm.data.prepared.writer import Content, write_manifest, write_shard
from diffussm.data.preparing.encoding import EncodingOptions
from diffussm.data.preparing.prepare import prepare
from diffussm.data.preparing.recipe import Options
from diffussm.rng import Stream, permutation, quantile_normal, uniform
from tests.support.known_vae import STD, known_images, known_means, known_vae
from tests.support.sources import noise, save

COUNT, SIDE = 11, 8
BLACK, WHITE = -0.5, 1.5
SCALE, SHIFT = (2.0, 0.5), (0.25, -1.0)
PIXELS = np.stack([noise(SIDE, SIDE, seed) for seed in range(COUNT)]).transpose(0, 3, 1, 2)
Stored = NDArray[np.float32]  # (N, 2, 2, C, h, w)
Mutation = Callable[[Stored, LatentFacts], tuple[Stored, LatentFacts]]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Latents of both flips, encoded in three batches."""
    return encode(tmp_path, monkeypatch, (BLACK, WHITE))


def encode(folder: Path, patch: pytest.MonkeyPatch, vae_range: tuple[float, float]) -> Path:
    for number, image in enumerate(PIXELS):
        save(folder / "in" / f"{number:02d}.png", image.transpose(1, 2, 0))
    vae = known_vae(folder / "vae", patch)
    given = EncodingOptions(vae, flips=True, batch=4, scale=SCALE, shift=SHIFT, vae_range=vae_range)
    prepare(folder / "in", folder / "set", Options(image_size=SIDE), encoding=given)
    return folder / "set"


def check(made: Path) -> None:
    """Compare what training and pictures get with what the images say."""
    manifest = read_manifest(made)
    assert (manifest.channels, manifest.image_size, manifest.flips) == (2, SIDE // 2, "paired")
    seed, step, size = 3, 5, 8
    batch, _ = training_data(DataConfig(name="mine", root=str(made), flip=True)).batch(seed, step, size)
    places = np.arange(step * size, (step + 1) * size)
    images = PIXELS[[permutation(seed, place // COUNT, COUNT)[place % COUNT] for place in places]]
    mirrored = uniform(seed, Stream.FLIP, step, 0, size) < 0.5
    assert 0 < mirrored.sum() < size
    images[mirrored] = images[mirrored, :, :, ::-1]
    drawn = quantile_normal(seed, Stream.POSTERIOR, step, 0, size, (2, SIDE // 2, SIDE // 2)).astype(np.float64)
    std, scale, shift = (np.array(values).reshape(2, 1, 1) for values in (STD, SCALE, SHIFT))
    latents = known_means(images, BLACK, WHITE) + std * drawn
    np.testing.assert_allclose(batch, (latents - shift) * scale, rtol=1e-6, atol=2e-6)
    shown = DecodedLatents(PreparedLatents(made), made.with_name("vae"), "cpu", "--vae").take(np.arange(COUNT)).pixels
    expected = known_images(known_means(PIXELS, BLACK, WHITE), BLACK, WHITE)
    assert shown.shape == PIXELS.shape
    assert 0 < np.mean(expected < 0) < 0.5  # some are clipped
    assert np.abs(shown - expected.clip(0, 255)).max() <= 0.5001


def test_every_digit(made: Path) -> None:
    check(made)
    manifest, stored = read_manifest(made), stored_in(made)
    facts = manifest.latents
    assert facts is not None
    assert (facts.scale, facts.shift, facts.vae_range, facts.scaled) == (SCALE, SHIFT, (BLACK, WHITE), False)
    assert (facts.decoded_size, facts.dtype, facts.baked) == (SIDE, "float32", ())
    assert stored.dtype == np.float32
    np.testing.assert_allclose(stored[:, 0, 0], known_means(PIXELS, BLACK, WHITE), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(stored[:, 1, 0], known_means(PIXELS[..., ::-1], BLACK, WHITE), rtol=1e-6, atol=1e-6)
    for channel, std in enumerate(STD):
        assert set(stored[:, :, 1, channel].flat) == {std}


MUTATIONS: dict[str, Mutation] = {
    "mean and deviation": lambda stored, facts: (stored[:, :, ::-1], facts),
    "image and mirror image": lambda stored, facts: (stored[:, ::-1], facts),
    "a mirrored latent for that of the mirror image": lambda stored, facts: (
        np.stack([stored[:, 0], stored[:, 0, ..., ::-1]], 1),
        facts,
    ),
    "channels": lambda stored, facts: (stored[:, :, :, ::-1], facts),
    "rows and columns": lambda stored, facts: (stored.swapaxes(-1, -2), facts),
    "deviation and variance": lambda stored, facts: (
        np.stack([stored[:, :, 0], np.square(stored[:, :, 1])], 2),
        facts,
    ),
    "scale and shift": lambda stored, facts: (
        stored,
        facts.model_copy(update={"scale": facts.shift, "shift": facts.scale}),
    ),
    "scales of the channels": lambda stored, facts: (stored, facts.model_copy(update={"scale": facts.scale[::-1]})),
    "shifts of the channels": lambda stored, facts: (stored, facts.model_copy(update={"shift": facts.shift[::-1]})),
    "multiplied and divided by the scale": lambda stored, facts: (
        stored,
        facts.model_copy(update={"scale": tuple(1 / value for value in facts.scale)}),
    ),
    "added and subtracted shift": lambda stored, facts: (
        stored,
        facts.model_copy(update={"shift": tuple(-value for value in facts.shift)}),
    ),
    "the range of decoding and [-1, 1]": lambda stored, facts: (
        stored,
        facts.model_copy(update={"vae_range": (-1.0, 1.0)}),
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_what_is_exchanged_is_found(name: str, made: Path) -> None:
    stored, facts = stored_in(made), read_manifest(made).latents
    assert facts is not None
    rewrite(made, stored, facts)
    check(made)
    rewrite(made, *MUTATIONS[name](stored, facts))
    with pytest.raises(AssertionError):
        check(made)


@pytest.mark.parametrize("vae_range", [(-1.0, 1.0), (0.0, 1.0)])
def test_the_range_of_encoding_is_found(
    vae_range: tuple[float, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = encode(tmp_path, monkeypatch, vae_range)
    facts = read_manifest(made).latents
    assert facts is not None
    rewrite(made, stored_in(made), facts.model_copy(update={"vae_range": (BLACK, WHITE)}))
    with pytest.raises(AssertionError):
        check(made)


def stored_in(made: Path) -> Stored:
    return np.concatenate([np.load(path) for path in sorted(made.glob("latents-*.npy"))])


def rewrite(made: Path, stored: Stored, facts: LatentFacts) -> Manifest:
    """Write the data set again, with hashes that fit."""
    former = read_manifest(made)
    return write_manifest(
        made,
        [write_shard(made, 0, stored, "latents")],
        content=Content("mean-std", (2, SIDE // 2, SIDE // 2), former.transform, "paired", facts),
        labels=np.zeros(COUNT, dtype=np.int64),
        classes=(),
        names=map(str, range(COUNT)),
        source=former.source.model_copy(update={"listing_sha256": hashlib.sha256(b"").hexdigest()}),
        versions={},
    )
