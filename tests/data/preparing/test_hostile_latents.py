"""Latents that no data set can be made of: one line that says why, exit code 2, nothing is written, and none is run."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.evaluating import Run
from tests.support.hostile_latents import (
    FIRST,
    LABELS,
    Make,
    a_file,
    bomb,
    compressed,
    cut_zip,
    ddt,
    dimsum,
    edm2,
    empty,
    expanded,
    fast_dit,
    lightningdit,
    mar,
    npy,
    pickled,
    pipe,
    plain_pickle,
    safetensors,
    statistics,
    with_classes,
    with_file,
    with_options,
)
from tests.support.latent_files import latents, uvit

R = ("--vae-range", "0,1")
LATENT, MOMENT = latents(1), "00000/img-mean-std-00000001.npy"
MOMENTS, CACHED = "n01443537/n01443537_1.JPEG.npz", "n01443537/n01443537_1.JPEG.pt"
SHARD, FEATURES, DAT = (
    "latents_rank00_shard000.safetensors",
    "imagenet256_feature_flip.dat",
    "imagenet256_label_flip.dat",
)
NOT_FINITE = np.where(np.arange(64).reshape(1, 4, 4, 4) == 5, np.nan, LATENT)
NEGATIVE = np.concatenate([LATENT[0], -np.abs(LATENT[0])])
CLAIM = npy(LATENT).replace(b"(1, 4, 4, 4)", b"(9, 9, 9, 9)")
HUGE = npy(LATENT).replace(b"(1, 4, 4, 4), }", b"(1, 4, 99999999999, 4), }")
HOSTILE: dict[str, tuple[Make, str]] = {
    "no such folder": (lambda tmp: (tmp / "absent",), r"absent: no such file or folder"),
    "an empty folder": (
        empty,
        r"in: holds no latents of a layout that is read: fast-DiT's .*EDM2's .*DDT's \*\.pt, Di",
    ),
    "another file": (a_file("a.h5", b"\x89HDF"), r"a\.h5: is none of what is read: fast-DiT's"),
    "pickles of U-ViT": (with_options(uvit), r"features/0\.npy: holds Python objects, as U-ViT writes them: a pickle"),
    "a pickle as a latent": (with_file(fast_dit, FIRST, npy(np.array([None]))), r"s/0\.npy: holds Python objects"),
    "a pickle as a label": (
        with_file(fast_dit, "imagenet256_labels/1.npy", npy(np.array([{}]))),
        r"labels/1\.npy: holds Python objects",
    ),
    "no label": (
        with_file(fast_dit, "imagenet256_labels/1.npy", None),
        r"features/1\.npy: has no partner in .*_labels",
    ),
    "no latents beside labels": (
        lambda tmp: (next((tmp / "in" / "x_labels").mkdir(parents=True) or tmp / "in" for _ in "1"),),
        r"in: needed is one pair of folders, \*_features and \*_labels; of the former it has none",
    ),
    "a negative label": (
        with_file(fast_dit, "imagenet256_labels/1.npy", npy(np.array([-1]))),
        r"labels/1\.npy: is int64 -1; a label is a whole number from 0 to 99999",
    ),
    "labels of one image": (
        with_file(fast_dit, "imagenet256_labels/1.npy", npy(np.array([1, 2]))),
        r"labels/1\.npy: is int64 of shape \(2,\); a label is",
    ),
    "a latent cut short": (
        with_file(fast_dit, FIRST, npy(LATENT)[:-9]),
        r"0\.npy: is damaged: it has 375 bytes, .* 384",
    ),
    "an empty latent": (with_file(fast_dit, FIRST, b""), r"0\.npy: is damaged \(its \.npy header cannot be parsed\)"),
    "a latent that claims more": (with_file(fast_dit, FIRST, CLAIM), r"0\.npy: is damaged: .* its header says 26,372"),
    "a latent that claims 6 TB": (
        with_file(fast_dit, FIRST, HUGE),
        r"0\.npy: is damaged: it has .* its header says 6,",
    ),
    "a pipe as a latent": (pipe, r"0\.npy: not a regular file"),
    "a latent that is not finite": (
        with_file(fast_dit, "imagenet256_features/1.npy", npy(NOT_FINITE)),
        r"features/1\.npy: holds numbers that are not finite",
    ),
    "a latent beyond float32": (
        with_file(fast_dit, "imagenet256_features/1.npy", npy(LATENT.astype(float) * 1e300)),
        r"features/1\.npy: holds numbers that are not finite",
    ),
    "a latent beyond float16": (
        with_file(fast_dit, "imagenet256_features/1.npy", npy(LATENT * 1e6), "--dtype", "float16"),
        r"features/1\.npy: .* float16",
    ),
    "a latent that was never written": (
        with_file(fast_dit, "imagenet256_features/1.npy", npy(LATENT * 0)),
        r"features/1\.npy: is all zeros: it was never written",
    ),
    "a latent of whole numbers": (
        with_file(fast_dit, FIRST, npy((LATENT * 9).astype(int))),
        r"0\.npy: is int64; latents are of floating point",
    ),
    "latents of two sizes": (
        with_file(fast_dit, "imagenet256_features/2.npy", npy(latents(1, 4, 8))),
        r"2\.npy: has shape \(1, 4, 8, 8\), the first latent \(1, 4, 4, 4\)",
    ),
    "oblong latents": (with_file(fast_dit, FIRST, npy(LATENT[..., :2])), r"0\.npy: has shape \(4, 4, 2\); latents are"),
    "overwritten files": (
        with_options(fast_dit, "--images", 6),
        r"holds 3 of 6 images' latents: .* overwrite each other",
    ),
    "a range that is not stated": (with_options(edm2), r"in: add --vae-range 0,1 if EDM2's tool wrote these latents"),
    "the other range": (
        with_options(edm2, "--vae-range", "-1,1"),
        r"--vae-range -1,1: the means of the channels are \d.*, 0\.\d+ standard deviations .*: they look like those",
    ),
    "a range backwards": (with_options(edm2, "--vae-range", "1,0"), r"--vae-range 1,0: allowed: two numbers"),
    "a range in words": (
        with_options(edm2, "--vae-range", "white"),
        r"--vae-range white: allowed: numbers, with commas",
    ),
    "no dataset.json": (with_file(edm2, "dataset.json", None, *R), r"dataset\.json: is missing; it is written last"),
    "dataset.json of something else": (
        with_file(edm2, "dataset.json", b"[]", *R),
        r"dataset\.json: is not of the form",
    ),
    "dataset.json of other images": (
        with_file(edm2, "dataset.json", json.dumps({"labels": [["a.npy", 1]]}).encode(), *R),
        r"in: 00000/img-mean-std-00000000\.npy: dataset\.json names no label of it",
    ),
    "a missing moment": (with_file(edm2, MOMENT, None, *R), r"in: img-mean-std-00000001\.npy is missing"),
    "a negative deviation": (
        with_file(edm2, MOMENT, npy(NEGATIVE), *R),
        r"1\.npy: a standard deviation is negative: -",
    ),
    "a cut zip": (cut_zip, r"a\.zip: is damaged or not a zip"),
    "no moments": (with_file(mar, MOMENTS, b"PK\5\6" + bytes(18)), r"n01443537_1\.JPEG\.npz: holds no array moments"),
    "a bomb": (with_file(mar, MOMENTS, bomb()), r"n01443537_1\.JPEG\.npz: would expand to 103,680,\d+ bytes"),
    "no npz": (with_file(mar, MOMENTS, b"no zip"), r"n01443537_1\.JPEG\.npz: is damaged or not an \.npz file"),
    "a program": (with_file(ddt, CACHED, pickled()), r"JPEG\.pt: is damaged, or holds more than tensors: a pickle"),
    "a plain pickle": (with_file(ddt, CACHED, plain_pickle()), r"JPEG\.pt: is not what torch\.save writes, a zip"),
    "a compressed .pt": (with_file(ddt, CACHED, compressed()), r"JPEG\.pt: is not what torch\.save writes: it is comp"),
    "tensors of 64 GB": (with_file(ddt, CACHED, expanded()), r"mean has shape \(4, 65536, 65536\), more than the file"),
    "no safetensors": (
        with_file(lightningdit, SHARD, b"no tensors at all"),
        r"shard000\.safetensors: is damaged or not",
    ),
    "tensors without labels": (safetensors(latents=torch.ones(2, 4, 4, 4)), r"has no tensors latents and labels"),
    "labels of other images": (
        safetensors(latents=torch.ones(2, 4, 4, 4), labels=torch.zeros(3, dtype=torch.int64)),
        r"latents are F32 \(2, 4, 4, 4\); needed is floating point \(3, C, h, w\)",
    ),
    "a deviation of zero": (
        statistics([0.0] * 4, [1.0, 0.0, 1.0, 1.0]),
        r"latents_stats\.pt: .* a deviation not above 0",
    ),
    "statistics of other channels": (statistics([0.0] * 3, [1.0] * 3), r"has 3 means and 3 deviations of 4 channels"),
    "no statistics": (
        with_file(lightningdit, "latents_stats.pt", None),
        r"in: add --scale S, by which its latents of 4",
    ),
    "a memory map that was not filled": (
        with_file(dimsum, FEATURES, bytes(6 * 256)),
        r"feature_flip\.dat: image 0: is all zeros: it was never written",
    ),
    "a memory map cut short": (
        with_file(dimsum, FEATURES, bytes(6 * 256 - 4)),
        r"feature_flip\.dat: has 1,532 bytes, which are no 6 latents of 4 channels, as high as wide",
    ),
    "a label for each pair": (
        with_file(dimsum, DAT, bytes(24)),
        r"label_flip\.dat: has 24 bytes; needed are 2 N int64",
    ),
    "pairs of two classes": (
        with_file(dimsum, DAT, np.array([*LABELS, 0, 2, 2]).tobytes()),
        r"label_flip\.dat: labels 1 and 4 differ, though they are of one image",
    ),
    "a scale for two channels": (
        with_options(fast_dit, "--scale", "1,2"),
        r"--scale: has 2 values; allowed: one, or one",
    ),
    "a scale of zero": (with_options(fast_dit, "--scale", "0"), r"--scale 0: "),
    "another type": (with_options(fast_dit, "--dtype", "int8"), r"--dtype int8: allowed: float32 or float16"),
    "no VAE": (lambda tmp: (fast_dit(tmp / "in"), "--vae", tmp / "vae"), r"vae: no such folder; an autoencoder is a"),
    "too few names": (with_classes("ant\nbee\n"), r"classes\.txt: has 2 lines; needed is a name for each of 3 classes"),
}


def test_there_are_fifty() -> None:
    assert len(HOSTILE) >= 50


@pytest.mark.parametrize("name", HOSTILE)
def test_one_line_and_nothing_is_written(
    name: str, tmp_path: Path, diffussm: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make, message = HOSTILE[name]
    arguments = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code, out, err = diffussm("data", "import", arguments[0], tmp_path / "set", *arguments[1:])
    lines = [line for line in err.splitlines() if not line.startswith("images ")]
    assert (code, out, len(lines)) == (2, "", 1), err
    assert lines[0].startswith("error: ")
    assert re.search(message, lines[0]), lines[0]
    assert sorted(tmp_path.rglob("*")) == before
