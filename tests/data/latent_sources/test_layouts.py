"""Each layout of latents is found, listed with its labels, and read to the digit; nothing is made up."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from diffussm.data.latent_sources.base import Facts, LatentSource, checked
from diffussm.data.latent_sources.detect import open_latents
from diffussm.data.sources.base import Found
from diffussm.errors import UserError
from tests.support import latent_files as files

LABELS = [0, 0, 1, 1, 2]


def opened(source: LatentSource) -> tuple[Found, Facts, NDArray[np.float32]]:
    """Return what is listed, what is said, and what another process reads, which knows the entries alone."""
    found = source.listed()
    facts = source.facts(found)
    other = pickle.loads(pickle.dumps(source))
    read = np.stack([checked(other, facts, entry) for entry in found.entries])
    assert read.dtype == np.float32
    return found, facts, read


def labels(found: Found) -> list[int | None]:
    return [entry.label for entry in found.entries]


def test_fast_dit(tmp_path: Path) -> None:
    values = files.latents(12)
    source = open_latents(files.fast_dit(tmp_path, values, [0] * 5 + [1] * 4 + [2] * 3))
    found, facts, read = opened(source)
    assert [entry.name for entry in found.entries] == [str(number) for number in range(12)]  # not 0, 1, 10, 11, 2
    assert labels(found) == [0] * 5 + [1] * 4 + [2] * 3
    assert found.classes == ("0", "1", "2")
    assert facts == Facts("sample", "baked", (4, 4, 4), scaled=True, scale=(0.18215,), shift=(0.0,))
    assert facts.baked == ("one posterior sample", "one flip")
    assert facts.decoded_size == 32
    assert np.array_equal(read, values[:, None])


@pytest.mark.parametrize("name", ["latents", "latents.zip"])
def test_edm2(tmp_path: Path, name: str) -> None:
    moments = files.edm2_moments(300, whitened=True)
    path = files.edm2(tmp_path / name, moments, [2, 0, 1] * 100)
    found, facts, read = opened(open_latents(path, vae_range=(0.0, 1.0)))
    assert found.entries[299].name == "00000/img-mean-std-00000299.npy"
    assert (labels(found), found.classes) == ([2, 0, 1] * 100, ("0", "1", "2"))
    assert (facts.kind, facts.flips, facts.scaled, facts.baked) == ("mean-std", "none", False, ())
    assert facts.scale == (0.5 / 4.17, 0.5 / 4.62, 0.5 / 3.71, 0.5 / 3.28)
    assert facts.shift == (5.81, 3.25, 0.12, -2.15)
    assert np.array_equal(read, moments[:, None])


def test_repa(tmp_path: Path) -> None:
    moments = files.edm2_moments(20, whitened=False)
    files.edm2(tmp_path / "vae-sd", moments, None)
    (tmp_path / "images").mkdir()
    found, facts, read = opened(open_latents(tmp_path, vae_range=(-1.0, 1.0)))
    assert (labels(found), found.classes) == ([None] * 20, ())
    assert facts == Facts("mean-std", "none", (4, 4, 4), scale=(0.18215,))
    assert np.array_equal(read, moments[:, None])


@pytest.mark.parametrize(("whitened", "stated"), [(True, (-1.0, 1.0)), (False, (0.0, 1.0)), (True, None)])
def test_the_range_of_pixels_must_be_stated_and_fit(
    tmp_path: Path, whitened: bool, stated: tuple[float, float] | None
) -> None:
    source = open_latents(files.edm2(tmp_path / "in", files.edm2_moments(30, whitened), None), stated)
    with pytest.raises(UserError, match="--vae-range") as error:
        source.facts(source.listed())
    expected = {(True, (-1.0, 1.0)): "they look like those", (False, (0.0, 1.0)): "too far for that range"}
    assert expected.get((whitened, stated), "add --vae-range 0,1 if EDM2's tool") in str(error.value)


def test_edm2_of_another_vae_has_no_scale(tmp_path: Path) -> None:
    moments = np.stack([files.latents(3, 16), files.deviations(3, 16)], axis=1)
    source = open_latents(files.edm2(tmp_path / "in", moments, None), (-1.0, 1.0))
    assert source.facts(source.listed()).scale is None


def test_mar(tmp_path: Path) -> None:
    moments, flipped = files.latents(5, 32), files.latents(5, 32, seed=1)
    moments[0, 16:18, 0, 0] = -40, 30  # logarithms of variances, which are clamped
    found, facts, read = opened(open_latents(files.mar(tmp_path, moments, flipped, LABELS)))
    assert (labels(found), found.classes) == (LABELS, files.WNIDS)
    assert found.entries[0].name == "n01440764/n01440764_0.JPEG.npz"
    assert facts == Facts("mean-std", "paired", (16, 4, 4), scale=(0.2325,))
    assert facts.decoded_size == 64
    for flip, values in enumerate((moments, flipped)):
        assert np.array_equal(read[:, flip, 0], values[:, :16])
        assert np.allclose(read[:, flip, 1], np.sqrt(np.exp(np.clip(values[:, 16:], -30, 20))), rtol=1e-6)
    assert read[0, 0, 1, :2, 0, 0] == pytest.approx([np.exp(-15), np.exp(10)], rel=1e-6)


def test_mar_without_flips_of_a_vae_of_4_channels(tmp_path: Path) -> None:
    _, facts, read = opened(open_latents(files.mar(tmp_path, files.latents(5, 8), None, LABELS)))
    assert facts == Facts("mean-std", "none", (4, 4, 4), scale=(0.18215,))
    assert read.shape == (5, 1, 2, 4, 4, 4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_ddt(tmp_path: Path, dtype: torch.dtype) -> None:
    mean, logvar = files.latents(5), files.latents(5, seed=1) - 4
    found, facts, read = opened(open_latents(files.ddt(tmp_path, mean, logvar, LABELS, dtype)))
    assert (labels(found), found.classes) == (LABELS, files.WNIDS)
    assert facts == Facts("mean-std", "none", (4, 4, 4), scale=(0.18215,))
    rounded = [torch.tensor(values).to(dtype).float().numpy() for values in (mean, logvar)]
    assert np.array_equal(read[:, 0, 0], rounded[0])
    assert np.allclose(read[:, 0, 1], np.exp(rounded[1] / 2), rtol=1e-6)


def test_lightningdit(tmp_path: Path) -> None:
    values, flipped = files.latents(5, 32), files.latents(5, 32, seed=1)
    files.lightningdit(tmp_path, values, flipped, LABELS)
    files.statistics(tmp_path, [0.5] * 31 + [0.25], [2.0] * 31 + [4.0])
    found, facts, read = opened(open_latents(tmp_path))
    assert [entry.name for entry in found.entries[2:4]] == [
        "latents_rank00_shard000.safetensors/00002",
        "latents_rank00_shard001.safetensors/00000",
    ]
    assert (labels(found), found.classes, found.skipped) == (LABELS, ("0", "1", "2"), {})
    assert (facts.kind, facts.flips, facts.shape) == ("sample", "paired", (32, 4, 4))
    assert facts.scale == (0.5,) * 31 + (0.25,)
    assert facts.shift == (0.5,) * 31 + (0.25,)
    assert (facts.scaled, facts.baked, facts.decoded_size) == (False, ("one posterior sample",), 64)
    assert np.array_equal(read, np.stack([values, flipped], axis=1))


def test_lightningdit_without_statistics_has_no_scale(tmp_path: Path) -> None:
    source = open_latents(files.lightningdit(tmp_path, files.latents(5), files.latents(5, seed=1), LABELS))
    assert source.facts(source.listed()).scale is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_lightningdit_in_other_precision(tmp_path: Path, dtype: torch.dtype) -> None:
    values = torch.tensor(files.latents(2)).to(dtype)
    files.save_file(
        {"latents": values, "labels": torch.tensor([0, 1])}, tmp_path / "latents_rank00_shard000.safetensors"
    )
    _, facts, read = opened(open_latents(tmp_path))
    assert facts.flips == "none"
    assert np.array_equal(read[:, 0], values.float().numpy())


def test_dimsum(tmp_path: Path) -> None:
    values, flipped = files.latents(5), files.latents(5, seed=1)
    found, facts, read = opened(open_latents(files.dimsum(tmp_path, values, flipped, LABELS)))
    assert (labels(found), found.classes) == (LABELS, ("0", "1", "2"))
    assert facts == Facts("sample", "paired", (4, 4, 4), scaled=True, scale=(0.18215,))
    assert np.array_equal(read, np.stack([values, flipped], axis=1))
