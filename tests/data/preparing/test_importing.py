"""Latents of each layout become a data set with the same values, and what was baked in is stated."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from diffussm.data.latent_sources.fast_dit import FastDit
from diffussm.data.prepared.latents import PreparedLatents
from diffussm.data.prepared.manifest import Manifest
from diffussm.data.preparing import build
from diffussm.data.preparing.importing import ImportOptions, import_latents
from diffussm.errors import UserError
from diffussm.vae.facts import vae_facts
from tests.data.preparing.test_prepare import content
from tests.support import latent_files as files
from tests.support.evaluating import Run

LABELS = [0, 0, 1, 1, 2]


def stored(out: Path, manifest: Manifest) -> NDArray[np.float32]:
    return np.concatenate([np.load(out / shard.arrays["latents"].file) for shard in manifest.shards])


def imported(path: Path, **options: object) -> tuple[Manifest, NDArray[np.float32]]:
    out = path.with_name("set")
    manifest = import_latents(path, out, ImportOptions(**options))  # type: ignore[arg-type]
    assert np.load(out / "labels.npy").tolist() == LABELS
    return manifest, stored(out, manifest)


def test_fast_dit(tmp_path: Path) -> None:
    values = files.latents(5)
    manifest, read = imported(files.fast_dit(tmp_path / "in", values, LABELS))
    assert (manifest.kind, manifest.flips, manifest.transform) == ("sample", "baked", "")
    assert (manifest.channels, manifest.image_size, manifest.classes) == (4, 4, ("0", "1", "2"))
    facts = manifest.latents
    assert facts is not None
    assert facts.baked == ("one posterior sample", "one flip")
    assert (facts.scaled, facts.scale, facts.shift, facts.vae_range) == (True, (0.18215,), (0.0,), (-1.0, 1.0))
    assert (facts.decoded_size, facts.dtype, facts.vae_sha256, facts.encoding) == (32, "float32", "", None)
    assert manifest.source.kind == "fast-dit"
    assert np.array_equal(read, values[:, None])


def test_edm2(tmp_path: Path) -> None:
    moments = files.edm2_moments(5, whitened=True)
    path = files.edm2(tmp_path / "in", moments, LABELS)
    manifest, read = imported(path, vae_range=(0.0, 1.0), image_size=512, transform="centre-crop 512")
    assert (manifest.kind, manifest.flips, manifest.transform) == ("mean-std", "none", "centre-crop 512")
    facts = manifest.latents
    assert facts is not None
    assert (facts.scaled, facts.baked, facts.vae_range, facts.decoded_size) == (False, (), (0.0, 1.0), 512)
    assert (facts.scale[3], facts.shift[3]) == (0.5 / 3.28, -2.15)
    assert np.array_equal(read, moments[:, None])


def test_the_network_sees_what_that_of_the_program_sees(tmp_path: Path) -> None:
    """Latents of each layout as its own program computes them."""
    values, moments = files.latents(5), files.edm2_moments(5, whitened=True)
    raw_mean, raw_std = files.EDM2_MEAN, files.EDM2_STD
    scale = np.float32(0.5) / np.float32(raw_std)
    bias = np.float32(0) - np.float32(raw_mean) * scale
    edm2 = moments[:, 0] * scale.reshape(-1, 1, 1) + bias.reshape(-1, 1, 1)  # encode_latents
    mean, std = np.float32([0.5, -1, 2, 3]), np.float32([2, 3, 0.5, 1])
    files.statistics(files.lightningdit(tmp_path / "lit", values, values, LABELS), mean.tolist(), std.tolist())
    whitened = (values - mean.reshape(-1, 1, 1)) / std.reshape(-1, 1, 1)
    wide = files.latents(5, 32)
    cases = {
        files.fast_dit(tmp_path / "fast", values, LABELS): (values, None),
        files.edm2(tmp_path / "edm2", moments, LABELS): (edm2, (0.0, 1.0)),
        tmp_path / "lit": (whitened, None),
        files.mar(tmp_path / "mar", wide, wide, LABELS): (wide[:, :16] * np.float32(0.2325), None),
    }
    for path, (expected, vae_range) in cases.items():
        out = path.with_suffix(".set")
        import_latents(path, out, ImportOptions(vae_range=vae_range))
        np.testing.assert_allclose(PreparedLatents(out).means(np.arange(5)), expected, rtol=1e-5, atol=1e-6)


def test_what_is_stated_goes_before_the_layout(tmp_path: Path) -> None:
    path = files.edm2(tmp_path / "in", files.edm2_moments(5, whitened=True), LABELS)
    facts = imported(path, vae_range=(0.0, 1.0), scale=(0.25,), shift=(1.0, 2.0, 3.0, 4.0))[0].latents
    assert facts is not None
    assert (facts.scale, facts.shift) == ((0.25,), (1.0, 2.0, 3.0, 4.0))


def test_mar_as_float16(tmp_path: Path) -> None:
    moments, flipped = files.latents(5, 32), files.latents(5, 32, seed=1)
    manifest, read = imported(files.mar(tmp_path / "in", moments, flipped, LABELS), dtype="float16")
    assert (manifest.kind, manifest.flips, manifest.classes) == ("mean-std", "paired", files.WNIDS)
    facts = manifest.latents
    assert facts is not None
    assert (facts.dtype, facts.scale, facts.decoded_size) == ("float16", (0.2325,), 64)
    assert read.dtype == np.float16
    mean = np.stack([moments[:, :16], flipped[:, :16]], axis=1)
    assert np.array_equal(read[:, :, 0], mean.astype(np.float16))
    error = np.abs(mean - mean.astype(np.float16))
    assert facts.mean_rounding is not None
    assert facts.mean_rounding.largest == error.max()
    assert facts.mean_rounding.rms == pytest.approx(np.sqrt(np.square(error, dtype=np.float64).mean()))
    assert facts.std_rounding is not None


def test_what_was_baked_in_and_excluded_is_printed(tmp_path: Path, diffussm: Run) -> None:
    path = files.lightningdit(tmp_path / "in", files.latents(5, 32), files.latents(5, 32, seed=1), LABELS, ranks=3)
    files.statistics(path, [0.5] * 32, [2.0] * 32)
    code, out, err = diffussm("data", "import", path, tmp_path / "set")
    assert (code, out) == (0, f"{tmp_path}/set\n")
    assert "5 latents of 32 x 4 x 4, transform unknown, 3 classes: 0, 1, 2\n" in err
    assert (
        "of each image one posterior sample, the same in every epoch; both flips; scale (0.5, 0.5, 0.5, 0.5, ...), "
        "shift (0.5, 0.5, 0.5, 0.5, ...); stored as float32; pixels -1 .. 1; decoded to "
        "64 x 64 by a VAE that is not stated\n"
    ) in err
    assert "left out: 1 duplicates of the first images, which DistributedSampler adds\n" in err
    assert diffussm("data", "verify", tmp_path / "set")[0] == 0
    files.fast_dit(tmp_path / "fast", files.latents(5), LABELS)
    _, _, err = diffussm("data", "import", tmp_path / "fast", tmp_path / "other", "--limit", 3, "--vae-range", "-1,1")
    assert "3 latents of 4 x 4 x 4" in err
    assert "one posterior sample, the same in every epoch; one flip, the same in every epoch; scale 0.18215" in err
    assert "shift 0, applied in what is stored; stored" in err


def vae(folder: Path, channels: int = 4, blocks: int = 4) -> Path:
    """What is read of an autoencoder here: its config, and bytes that are hashed."""
    folder.mkdir()
    config = {"_class_name": "AutoencoderKL", "latent_channels": channels, "block_out_channels": [8] * blocks}
    (folder / "config.json").write_text(json.dumps({**config, "scaling_factor": 0.5, "shift_factor": 0.125}))
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"weights")
    return folder


def test_the_hash_of_a_vae_is_stated(tmp_path: Path) -> None:
    files.fast_dit(tmp_path / "in", files.latents(5), LABELS)
    facts = imported(tmp_path / "in", vae=vae(tmp_path / "vae", blocks=3))[0].latents
    assert facts is not None
    assert facts.vae_sha256 == vae_facts(tmp_path / "vae").sha256
    assert (facts.decoded_size, facts.scale, facts.shift) == (16, (0.18215,), (0.0,))  # the size is the VAE's


def test_the_scale_is_the_vaes_if_the_layout_has_none(tmp_path: Path) -> None:
    files.mar(tmp_path / "in", files.latents(5, 16), None, LABELS)
    facts = imported(tmp_path / "in", vae=vae(tmp_path / "vae", channels=8))[0].latents
    assert facts is not None
    assert (facts.scale, facts.shift, facts.decoded_size) == ((0.5,), (0.125,), 32)


@pytest.mark.parametrize(
    ("channels", "options", "message"),
    [
        (8, {}, r"--vae .*vae: its latents have 8 channels, those of .*in 4"),
        (4, {"image_size": 64}, r"--image-size 64: .*vae decodes latents of 4 x 4 to 32 x 32 pixels"),
    ],
)
def test_a_vae_must_fit(tmp_path: Path, channels: int, options: dict[str, int], message: str) -> None:
    files.fast_dit(tmp_path / "in", files.latents(5), LABELS)
    with pytest.raises(UserError, match=message):
        imported(tmp_path / "in", vae=vae(tmp_path / "vae", channels), **options)


def test_the_size_of_images_of_an_unknown_vae_must_be_stated(tmp_path: Path) -> None:
    files.mar(tmp_path / "in", files.latents(5, 16), None, LABELS)
    with pytest.raises(UserError, match="add --image-size S"):
        imported(tmp_path / "in", scale=(1.0,))


NAMES = "n01440764 tench, Tinca tinca\nn01443537 goldfish\nn01484850 great white shark\n"


@pytest.mark.parametrize(
    ("layout", "text", "classes"),
    [
        ("fast-dit", "ant\nbee\ncat\n", ("ant", "bee", "cat")),
        ("fast-dit", "crane\nbee\ncrane\n", ("crane (0)", "bee", "crane (2)")),
        ("fast-dit", NAMES, ("tench, Tinca tinca", "goldfish", "great white shark")),
        ("mar", NAMES, ("tench, Tinca tinca", "goldfish", "great white shark")),
    ],
)
def test_names_of_classes(tmp_path: Path, layout: str, text: str, classes: tuple[str, ...]) -> None:
    (tmp_path / "classes.txt").write_text(text)
    if layout == "mar":
        files.mar(tmp_path / "in", files.latents(5, 8), None, LABELS)
    else:
        files.fast_dit(tmp_path / "in", files.latents(5), LABELS)
    assert imported(tmp_path / "in", classes=tmp_path / "classes.txt")[0].classes == classes


@pytest.fixture
def shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "LEAST_IMAGES", 2)
    monkeypatch.setattr(build, "SHARDS", 3)


@pytest.mark.usefixtures("shards")
def test_an_import_that_was_stopped_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = files.fast_dit(tmp_path / "in", files.latents(5), LABELS)
    import_latents(path, tmp_path / "whole", ImportOptions())
    expected = content(tmp_path / "whole")
    assert sum(name.startswith("latents-") for name in expected) == 3
    read = FastDit.read

    def stopping(source: FastDit, entry: object) -> NDArray[np.float32]:
        if entry.name == "4":  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        return read(source, entry)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(FastDit, "read", stopping)
        import_latents(path, tmp_path / "set", ImportOptions())
    with pytest.raises(UserError, match=r"set\.partial: was begun otherwise: .*give the former options, or delete it"):
        import_latents(path, tmp_path / "set", ImportOptions(scale=(0.5,)))
    asked: list[str] = []
    monkeypatch.setattr(FastDit, "read", lambda source, entry: asked.append(entry.name) or read(source, entry))
    import_latents(path, tmp_path / "set", ImportOptions())
    assert asked == ["0", "4"]  # the first, for the shape
    assert content(tmp_path / "set") == expected


@pytest.mark.usefixtures("shards")
def test_several_processes_make_the_same_bytes(tmp_path: Path) -> None:
    path = files.fast_dit(tmp_path / "in", files.latents(5), LABELS)
    import_latents(path, tmp_path / "one", ImportOptions())
    import_latents(path, tmp_path / "two", ImportOptions(), processes=2)
    assert content(tmp_path / "two") == content(tmp_path / "one")


@pytest.mark.usefixtures("shards")
def test_a_damaged_latent_in_a_later_shard_keeps_those_before(tmp_path: Path) -> None:
    path = files.fast_dit(tmp_path / "in", files.latents(5), LABELS)
    broken = path / "imagenet256_features" / "4.npy"
    intact, time = broken.read_bytes(), broken.stat().st_mtime_ns
    broken.write_bytes(b"x" * len(intact))
    os.utime(broken, ns=(time, time))  # damaged on the disk, not written anew
    with pytest.raises(
        UserError, match=r"4\.npy: is damaged .*; 2 of 3 shards are finished and kept in .*set\.partial"
    ):
        import_latents(path, tmp_path / "set", ImportOptions())
    broken.write_bytes(intact)
    os.utime(broken, ns=(time, time))
    import_latents(path, tmp_path / "set", ImportOptions())
    assert not os.path.exists(tmp_path / "set.partial")
