"""The nearest training images of samples of latents are decoded means of the posteriors."""

from pathlib import Path

import numpy as np
import pytest
import torch

from diffussm.config import Config
from diffussm.errors import UserError
from diffussm.metrics.decoding.decoder import make_decoder
from diffussm.metrics.decoding.pixels import to_pixels
from diffussm.metrics.features.extractor import Extractor
from diffussm.metrics.pictures import nearest
from diffussm.metrics.pictures.nearest import nearest_at_milestone, nearest_images
from tests.support.latent_runs import known_vae, latent_config, latents
from tests.support.prepared_set import write_latents

FACTS = {"scale": (0.5, 2.0, 0.25, 1.0), "shift": (0.25, -0.5, 0.0, 7.0)}


@pytest.fixture
def vae(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return str(known_vae(tmp_path / "vae", monkeypatch))


def of_others(tmp_path: Path, vae: str, folder: str, changes: dict[str, object] | None = None) -> Config:
    """The config of other latents, without classes."""
    place = {"data.root": str(tmp_path / folder), "evaluation.vae": vae, "model.classes": 0}
    return latent_config(tmp_path / "data", {**place, **(changes or {})})


@pytest.mark.parametrize("by", ["features of photos-cnn", "pixels"])
def test_decoded_means_are_their_own_nearest(
    by: str, vae: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = latent_config(tmp_path / "data", {"evaluation.vae": vae}, **FACTS)
    if by == "pixels":
        monkeypatch.setattr(nearest, "_space", lambda *_: None)
    raw = latents()[[3, 11, 19], 0, 0, :3]  # what the known autoencoder decodes is repeated 8 x 8 times
    pixels = np.clip(np.rint((raw + 1) * 127.5), 0, 255).astype(np.uint8).repeat(8, 2).repeat(8, 3)
    found = nearest_images(pixels, config)
    assert found.by == by
    assert np.abs(found.pixels.astype(int) - pixels).max() <= 1  # of float32: scaled, and back


@pytest.mark.parametrize("kind", ["mean-std", "sample"])
def test_mirrored_pairs_count(kind: str, vae: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is mirrored as an image; what is stored of the mirror image is not needed."""
    stored = latents(flips=2)
    write_latents(tmp_path / "paired", stored if kind == "mean-std" else stored[:, :, 0], "paired")
    config = of_others(tmp_path, vae, "paired", {"data.flip": True})
    monkeypatch.setattr(nearest, "_space", lambda *_: None)
    z = torch.from_numpy(stored[[2, 5], 0, 0]) * 0.18215
    pixels = to_pixels(make_decoder(config).decode(z))
    samples = np.stack([pixels[0], pixels[1][..., ::-1]])
    found = nearest_images(samples, config).pixels
    assert np.abs(found.astype(int) - samples).max() <= 1


def test_a_latent_that_is_not_finite(vae: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "_space", lambda *_: None)
    stored = latents()
    stored[3, 0, 0, 0] = np.nan
    write_latents(tmp_path / "damaged", stored)
    config = of_others(tmp_path, vae, "damaged")
    with pytest.raises(UserError, match=r"data\.name = mine: has latents that are not decoded to finite images"):
        nearest_images(np.zeros((1, 3, 32, 32), np.uint8), config)


def test_not_at_milestones(vae: str, tmp_path: Path) -> None:
    config = latent_config(tmp_path / "data", {"evaluation.vae": vae})
    extractor = Extractor("photos-cnn", ["features"])
    assert nearest_at_milestone(np.zeros((1, 3, 32, 32), np.uint8), config, extractor, "cpu") is None
