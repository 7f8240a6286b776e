"""Autoencoders in folders: what is known of them, and encoding and decoding against Diffusers'."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from diffussm.errors import UserError
from diffussm.vae.autoencoder import Autoencoder
from diffussm.vae.facts import WEIGHTS, vae_facts
from tests.support.tiny_vae import change_config, tiny_vae


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An autoencoder; never modified."""
    return tiny_vae(tmp_path_factory.mktemp("vae") / "tiny")


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


def images(count: int = 3, side: int = 16) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (count, 3, side, side), dtype=np.uint8)


def test_facts(tiny: Path, copy: Path, tmp_path: Path) -> None:
    facts = vae_facts(tiny)
    assert (facts.channels, facts.factor, facts.scale, facts.shift) == (4, 8, (0.18215,), (0.0,))
    assert facts.latent_shape(256) == (4, 32, 32)
    with pytest.raises(UserError, match="1/8 of the pixels per side, and 30 is no multiple of 8"):
        facts.latent_shape(30)
    of_a_pipeline = tmp_path / "pipeline"
    of_a_pipeline.mkdir()
    copy.rename(of_a_pipeline / "vae")
    assert vae_facts(of_a_pipeline).sha256 == facts.sha256


def test_the_hash_is_of_the_network(tiny: Path, copy: Path) -> None:
    known = vae_facts(tiny).sha256
    assert vae_facts(change_config(copy, scaling_factor=0.5, _diffusers_version="0", sample_size=7)).sha256 == known
    assert vae_facts(change_config(copy, norm_num_groups=1)).sha256 != known
    change_config(copy, norm_num_groups=2)
    weights = load_file(copy / WEIGHTS)
    weights["quant_conv.bias"] += 1
    save_file(weights, copy / WEIGHTS)
    assert vae_facts(copy).sha256 != known


def test_scale_and_shift_per_channel(copy: Path) -> None:
    change_config(copy, scaling_factor=2.0, shift_factor=0.25)
    assert (vae_facts(copy).scale, vae_facts(copy).shift) == ((2.0,), (0.25,))
    change_config(copy, latents_mean=[1, 2, 3, 4], latents_std=[1, 2, 4, 8])
    assert (vae_facts(copy).scale, vae_facts(copy).shift) == ((2.0, 1.0, 0.5, 0.25), (1.0, 2.0, 3.0, 4.0))


@pytest.mark.parametrize("vae_range", [(-1.0, 1.0), (0.0, 1.0)])
def test_against_diffusers(tiny: Path, vae_range: tuple[float, float]) -> None:
    from diffusers import AutoencoderKL

    theirs = AutoencoderKL.from_pretrained(tiny, local_files_only=True, low_cpu_mem_usage=False).eval()
    ours = Autoencoder(tiny, vae_range=vae_range)
    unit = torch.from_numpy(images()).float() / 255
    black, white = vae_range
    with torch.no_grad():
        posterior = theirs.encode(unit * (white - black) + black).latent_dist
        decoded = theirs.decode(posterior.mean).sample
    moments = ours.moments(images())
    assert moments.shape == (3, 2, 4, 2, 2)
    np.testing.assert_allclose(moments[:, 0], posterior.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(moments[:, 1], posterior.std, rtol=1e-5)
    found = (ours.decode(torch.from_numpy(moments[:, 0])) + 1) / 2
    np.testing.assert_allclose(found, (decoded - black) / (white - black), rtol=1e-4, atol=1e-5)


def test_large_images_are_decoded_one_by_one(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Autoencoder(tiny)
    latents = torch.from_numpy(np.random.default_rng(1).normal(size=(3, 4, 2, 2)).astype(np.float32))
    whole = ours.decode(latents)
    monkeypatch.setattr("diffussm.vae.autoencoder.DECODED_AT_ONCE", 16 * 16)
    np.testing.assert_allclose(ours.decode(latents), whole, rtol=1e-5, atol=1e-6)


def test_bf16_is_near(tiny: Path) -> None:
    exact, near = Autoencoder(tiny).moments(images()), Autoencoder(tiny, precision="bf16").moments(images())
    assert near.dtype == np.float32
    assert 0 < np.abs(near - exact).max() < 0.1


def test_nothing_is_printed(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Autoencoder(tiny).moments(images())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"_class_name": "AutoencoderTiny"}, "is of class 'AutoencoderTiny'; read is Diffusers' AutoencoderKL"),
        ({"in_channels": 1}, "in_channels: read are autoencoders of images of 3 channels"),
        ({"latent_channels": "4"}, "latent_channels: allowed: 1 .. 4096"),
        ({"block_out_channels": 4}, "block_out_channels: allowed: a list of 1 to 10 numbers"),
        ({"scaling_factor": [1, 2]}, "scaling_factor: allowed: 1 finite number"),
        ({"latents_mean": [0, 0, 0, 0], "latents_std": [1, 1]}, "latents_std: allowed: 4 finite numbers"),
        ({"latents_mean": [0, 0, 0, 0], "latents_std": [1, 1, 0, 1]}, "latents_std: must not be zero"),
    ],
)
def test_configs_that_are_refused(copy: Path, changes: dict[str, object], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        vae_facts(change_config(copy, **changes))


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"[" * 100_000, b'{"a": "' + b"x" * (1 << 20) + b'"}'])
def test_what_is_no_config(copy: Path, content: bytes) -> None:
    (copy / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.json: is not the config of an autoencoder"):
        vae_facts(copy)


def test_folders_that_hold_none(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none: no such folder"):
        vae_facts(tmp_path / "none")
    with pytest.raises(UserError, match=r"holds no config\.json"):
        vae_facts(tmp_path)
    (copy / WEIGHTS).rename(copy / "diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match=r"holds no .*safetensors; diffusion_pytorch_model\.bin is not read"):
        vae_facts(copy)


def test_weights_that_do_not_fit(tiny: Path, copy: Path) -> None:
    content = (copy / WEIGHTS).read_bytes()
    (copy / WEIGHTS).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"cannot be loaded as config\.json says"):
        Autoencoder(copy)
    weights = load_file(tiny / WEIGHTS)
    save_file({name: value for name, value in weights.items() if name != "quant_conv.bias"}, copy / WEIGHTS)
    with pytest.raises(UserError, match=r"does not fit config\.json, at quant_conv\.bias and 0 others"):
        Autoencoder(copy)
    shutil.copy(tiny / WEIGHTS, copy)
    change_config(copy, block_out_channels=[8, 8, 8, 8])
    with pytest.raises(UserError, match=r"cannot be loaded as config\.json says") as raised:
        Autoencoder(copy)
    assert "\n" not in str(raised.value)
    assert json.loads((copy / "config.json").read_text())["block_out_channels"] == [8, 8, 8, 8]
