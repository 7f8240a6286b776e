"""`diffussm evaluate` of samples from elsewhere: files, folders, colours, and a cache that cannot be written to."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diffussm.data.load import reference_images
from diffussm.metrics.reference import cache
from tests.support.evaluating import DIGITS, Run, assert_error, parsed


def test_an_npz_and_a_folder_measure_the_same(npz: Path, pixels: np.ndarray, tmp_path: Path, diffussm: Run) -> None:
    folder = tmp_path / "png"
    folder.mkdir()
    for i, image in enumerate(pixels):
        Image.fromarray(image[0]).save(folder / f"{i}.png")
    code, out, _ = diffussm("evaluate", npz, folder, "--reference", "digits", "--json")
    assert code == 0
    found = parsed(out)
    assert list(found) == [str(npz), str(folder)]
    assert found[str(npz)].metrics == found[str(folder)].metrics
    assert {"fid", "sfid", "inception_score", "kid", "precision", "recall"} <= found[str(npz)].metrics.keys()
    assert found[str(npz)].key == found[str(folder)].key
    assert found[str(npz)].key.extractor == "digits-cnn"
    (folder / "a.webp").touch()
    upper = tmp_path / "UPPER.NPZ"
    upper.write_bytes(npz.read_bytes())
    assert diffussm("evaluate", upper, *DIGITS, "--metrics", "fid")[0] == 0
    code, out, err = diffussm("evaluate", npz, folder, *DIGITS, "--metrics", "fid")
    assert code == 0
    assert err.splitlines()[-1] == f"{folder}: 12 images taken; left out: 1 with other suffixes (.webp)"
    assert out.count("FID") == 3  # in two rows, and marked as unreliable below
    assert out.count("n = 12;") == 1
    assert not list((cache.folder() / "shards").iterdir())


def test_colours(tmp_path: Path, diffussm: Run) -> None:
    colour = reference_images("photos").pixels[:12]
    folder, path = tmp_path / "png", tmp_path / "colour.npz"
    folder.mkdir()
    np.savez_compressed(path, arr_0=colour.transpose(0, 2, 3, 1))
    for i, image in enumerate(colour):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{i:03d}.png")
    given = ("--reference", "photos", "--metrics", "fid", "--json")
    found = parsed(diffussm("evaluate", path, folder, *given)[1])
    assert found[str(path)].metrics == found[str(folder)].metrics
    assert found[str(path)].key.extractor == "photos-cnn"
    np.savez(path, arr_0=colour[:, :1].transpose(0, 2, 3, 1))
    assert_error(
        diffussm("evaluate", path, *given), "reference = photos: is for 3 x 32 x 32 images, but these are 1 x 32 x 32"
    )


def test_other_numbers_of_samples_share_no_table(npz: Path, pixels: np.ndarray, tmp_path: Path, diffussm: Run) -> None:
    fewer = tmp_path / "fewer.npz"
    np.savez(fewer, arr_0=pixels[:8].transpose(0, 2, 3, 1))
    outputs = diffussm("evaluate", npz, fewer, *DIGITS, "--metrics", "fid")
    assert_error(outputs, "records differ in how they were measured (samples)")  # and nothing was measured


def test_a_cache_that_cannot_be_written_to(npz: Path, tmp_path: Path, diffussm: Run, monkeypatch: Any) -> None:
    monkeypatch.setattr("diffussm.metrics.external.utc", lambda: "2026-01-01T00:00:00Z")
    given = ("evaluate", npz, *DIGITS, "--metrics", "fid", "--json")
    expected = diffussm(*given)[1]
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    for place in (npz, "/proc/diffussm"):
        monkeypatch.setenv("DIFFUSSM_CACHE", str(place))
        code, out, _ = diffussm(*given)
        assert (code, out) == (0, expected)
        assert list(temporary.iterdir()) == []
