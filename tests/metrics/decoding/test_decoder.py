"""Latents become images by decode(z / scale + shift), to the digit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffussm.config import Config
from diffussm.errors import NotFinite, UserError
from diffussm.metrics import sampling
from diffussm.metrics.decoding.decoder import make_decoder
from diffussm.metrics.sampling import SampleMaker, generate
from tests.support import tiny
from tests.support.latent_runs import constant_latents, known_vae, latent_config

LATENTS = [[0.25, 1.0, -0.5, 9.0], [0.0, 0.5, 1.0, 9.0]]
SCALE, SHIFT = (0.5, 2.0, 4.0, 1.0), (0.25, -0.5, 0.125, 7.0)
# z / scale + shift: (0.75, 0, 0), (0.25, -0.25, 0.375); of [0, 1] these are 0.75, 0, 0; 0.25, < 0, 0.375 of white, of
# [-1, 1] 0.875, 0.5, 0.5; 0.625, 0.375, 0.6875. In 255ths, half to even:
PIXELS = {
    (0.0, 1.0): [[191, 0, 0], [64, 0, 96]],
    (-1.0, 1.0): [[223, 128, 128], [159, 96, 175]],
}


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the sampler returns, whatever the network."""
    monkeypatch.setattr(sampling, "make_sampler", lambda *_, **__: lambda *_: constant_latents(LATENTS))


def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **facts: Any) -> Config:
    known_vae(tmp_path / "vae", monkeypatch)
    stated = {"scale": SCALE, "shift": SHIFT, "vae_range": (0.0, 1.0), **facts}
    return latent_config(tmp_path / "data", {"evaluation.vae": str(tmp_path / "vae")}, **stated)


def pixels_of(made: Config) -> list[list[int]]:
    pixels = SampleMaker(made, lambda *_: torch.empty(0))(0, 2).pixels
    assert pixels.shape == (2, 3, 32, 32)
    assert (pixels == pixels[:, :, :1, :1]).all()
    return pixels[:, :, 0, 0].tolist()


@pytest.mark.parametrize("vae_range", list(PIXELS))
def test_to_the_digit(
    vae_range: tuple[float, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, samples: None
) -> None:
    assert pixels_of(config(tmp_path, monkeypatch, vae_range=vae_range)) == PIXELS[vae_range]


@pytest.mark.parametrize("swapped", [{"scale": SHIFT, "shift": SCALE}, {"vae_range": (-1.0, 1.0)}])
def test_what_is_swapped_shows(
    swapped: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, samples: None
) -> None:
    assert pixels_of(config(tmp_path, monkeypatch, **swapped)) != PIXELS[0.0, 1.0]


def test_one_scale_for_all_channels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, samples: None) -> None:
    made = config(tmp_path, monkeypatch, scale=(2.0,), shift=(0.5,))
    assert pixels_of(made) == [[159, 255, 64], [128, 191, 255]]  # 0.625, 1, 0.25; 0.5, 0.75, 1


def test_the_scale_of_the_autoencoder_where_the_data_state_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = config(tmp_path, monkeypatch)
    known_vae(tmp_path / "other", monkeypatch, scaling_factor=2.0, shift_factor=0.5)
    data = made.data.model_copy(update={"scale": (), "shift": (), "vae_range": (-1.0, 1.0)})
    evaluation = made.evaluation.model_copy(update={"vae": str(tmp_path / "other")})
    decode = make_decoder(made.model_copy(update={"data": data, "evaluation": evaluation})).decode
    assert decode(constant_latents([[1.0, -1.0, 0.0, 0.0]]))[0, :, 0, 0].tolist() == [1.0, 0.0, 0.5]


def test_generated_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the batch, a sample is its own, and as many images are made."""

    def drawn(network: object, labels: Tensor, noise: Any) -> Tensor:
        return noise(0)

    monkeypatch.setattr(sampling, "make_sampler", lambda *_, **__: drawn)
    made = config(tmp_path, monkeypatch)
    whole = SampleMaker(made, lambda *_: torch.empty(0))(0, 12)
    parts = generate(made, lambda *_: torch.empty(0), 12)  # of 5, 5 and 2
    np.testing.assert_array_equal(parts.pixels, whole.pixels)
    assert parts.pixels.shape == (12, 3, 32, 32)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_latent_that_is_not_finite_is_named(value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the autoencoder would make a white pixel of it."""
    bad = constant_latents(LATENTS)
    bad[1, 3, 0, 0] = value
    monkeypatch.setattr(sampling, "make_sampler", lambda *_, **__: lambda *_: bad)
    with pytest.raises(NotFinite, match="sample 8 is not finite"):
        SampleMaker(config(tmp_path, monkeypatch), lambda *_: torch.empty(0))(7, 2)


def test_an_image_that_is_not_finite_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = config(tmp_path, monkeypatch, scale=(1e-30,), shift=(0.0,))
    latents = constant_latents([[0.0, 0, 0, 0], [1e30, 0, 0, 0]])
    monkeypatch.setattr(sampling, "make_sampler", lambda *_, **__: lambda *_: latents)
    with pytest.raises(NotFinite, match="sample 1 is not finite"):
        SampleMaker(made, lambda *_: torch.empty(0))(0, 2)


def test_pixels_are_as_they_are() -> None:
    decoder = make_decoder(tiny.config())
    assert decoder.shape == (1, 8, 8)
    images = torch.zeros(2, 1, 8, 8)
    assert decoder.decode(images) is images


def test_without_an_autoencoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIFFUSSM_VAE", raising=False)
    with pytest.raises(UserError, match=r"evaluation\.vae: needs the autoencoder that encoded the data: set eval"):
        SampleMaker(latent_config(tmp_path / "data"), lambda *_: torch.empty(0))
