"""Loading data, in images per second: training batches, and images decoded from files."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bench.measure import Bench, Contender
from diffussm.config import DataConfig
from diffussm.data.digits import scikit_learn_folder
from diffussm.data.load import training_data
from diffussm.data.pixels import NpzPixels, Pixels, write_npz
from diffussm.data.prepared.manifest import LatentFacts, Source
from diffussm.data.prepared.writer import Content, write_manifest, write_shard
from diffussm.data.preparing.images import SourceImages
from diffussm.data.preparing.prepare import prepare
from diffussm.data.preparing.recipe import Options
from diffussm.data.transforms import as_array, centre_cropped
from diffussm.rng import permutation
from diffussm.training.batches import scaled

BATCH, SIDE = 256, 256


@pytest.mark.parametrize("name", ["digits", "photos"])
def test_training_batch(bench: Bench, name: str) -> None:
    size = bench.scale.count(BATCH)
    bench.describe("data", f"a batch of {size} images that trains", name, device="cpu")
    data, steps = training_data(DataConfig(name=name)), iter(range(10**9))

    def check() -> None:
        """Assert that the second half of a batch is the same when it is loaded alone."""
        batch, half = data.batch(0, 3, size), data.batch(0, 3, size, size // 2)
        np.testing.assert_array_equal(batch[0][size // 2 :], half[0])

    bench.measure(Contender(lambda: data.batch(0, next(steps), size), check, items=size))


@pytest.mark.parametrize(("side", "count"), [(32, 8192), (256, 512)])
def test_prepared(bench: Bench, tmp_path: Path, side: int, count: int) -> None:
    """Images of a prepared data set from the page cache: read, compared with their hashes, flipped, as numbers."""
    count, size = bench.scale.count(count), bench.scale.count(BATCH)
    bench.describe("data", f"a batch of {size} images that trains", f"prepared, {side} x {side} x 3", device="cpu")
    images = np.random.default_rng(0).integers(0, 256, (count, 3, side, side), dtype=np.uint8)
    write_npz(tmp_path / "images.npz", (3, side, side), count, iter([images]))
    prepare(tmp_path / "images.npz", tmp_path / "prepared", Options())
    data, steps = training_data(DataConfig(name="mine", root=str(tmp_path / "prepared"), flip=True)), iter(range(10**9))

    def check() -> None:
        """Assert that an epoch has every image once, flipped or not."""
        seen, shuffled = data.batch(0, 0, count)[0], images[permutation(0, 0, count)]
        assert all((a == b).all() or (a == b[..., ::-1]).all() for a, b in zip(seen, shuffled, strict=True))

    bench.measure(Contender(lambda: scaled(data.batch(0, next(steps), size)[0]), check, items=size))


@pytest.mark.parametrize("kind", ["samples", "posteriors, each drawn", "posteriors in float16, each drawn"])
def test_latents(bench: Bench, tmp_path: Path, kind: str) -> None:
    """Latents of 4 x 32 x 32 from the page cache: read, compared with their hashes, mirrored, scaled."""
    count, size = bench.scale.count(512), bench.scale.count(32)
    bench.describe("data", f"a batch of {size} latents that trains", f"4 x 32 x 32, {kind}", device="cpu")
    stored = np.abs(np.random.default_rng(0).normal(size=(count, 2, 2, 4, 32, 32))).astype(np.float32)
    stored = stored[:, :, 0].copy() if kind == "samples" else stored.astype("f2" if "float16" in kind else "f4")
    prepare_latents(tmp_path / "prepared", stored)
    data, steps = training_data(DataConfig(name="mine", root=str(tmp_path / "prepared"), flip=True)), iter(range(10**9))

    def check() -> None:
        """Assert that an image is one of its pair, scaled, up to a few standard deviations."""
        values, pair = data.batch(0, 0, 1)[0][0] / 0.18215, stored[permutation(0, 0, count)[0]].astype(np.float32)
        if kind == "samples":
            assert min(np.abs(values - view).max() for view in pair) < 1e-5
        else:
            assert min((np.abs(values - mean) / std).max() for mean, std in pair) < 4.4

    bench.measure(Contender(lambda: data.batch(0, next(steps), size), check, items=size))


def prepare_latents(folder: Path, stored: NDArray[Any]) -> None:
    """Write mirrored pairs of samples (N, 2, C, h, w) or of means and deviations (N, 2, 2, C, h, w) as a data set."""
    folder.mkdir()
    dtype: Any = stored.dtype.name
    facts = LatentFacts(
        vae_sha256="", vae_range=(-1.0, 1.0), scale=(0.18215,), shift=(0.0,), scaled=False, decoded_size=256, baked=(),
        dtype=dtype,
    )  # fmt: skip
    kind: Any = "mean-std" if stored.ndim == 6 else "sample"
    write_manifest(
        folder,
        [write_shard(folder, 0, stored, "latents")],
        Content(kind, stored.shape[-3:], "none", "paired", facts),
        np.zeros(len(stored), dtype=np.int64),
        (),
        map(str, range(len(stored))),
        Source(kind="bench", listing_sha256="0" * 64, taken=len(stored), skipped={}, notes={}),
        {},
    )


def files(kind: str, folder: Path, count: int) -> Pixels:
    """Return photographs in JPEG files, cropped as for ADM and DiT, or images of 64 x 64 in an .npz."""
    if kind == "JPEG files, centre-cropped":
        for number in range(count):
            name = ("china.jpg", "flower.jpg")[number % 2]
            (folder / f"{number}.jpg").write_bytes((scikit_learn_folder() / "datasets/images" / name).read_bytes())
        return SourceImages(folder, Options(image_size=SIDE))
    images = np.random.default_rng(0).integers(0, 256, (count, 3, 64, 64), dtype=np.uint8)
    write_npz(folder / "images.npz", (3, 64, 64), count, iter([images]))
    return NpzPixels(folder / "images.npz")


def bare_loop(folder: Path, out: Path) -> None:
    """Decode, crop and write the photographs of a folder, and do nothing else."""
    cropped = []
    for file in sorted(folder.iterdir()):
        with Image.open(file) as image:
            cropped.append(as_array(centre_cropped(image.convert("RGB"), SIDE)))
    np.save(out, np.stack(cropped))


@pytest.mark.parametrize("kind", ["data prepare", "bare loop of Pillow"])
def test_preparing(bench: Bench, tmp_path: Path, kind: str) -> None:
    count = bench.scale.count(16)
    bench.describe("data", f"preparing {count} photographs at {SIDE} x {SIDE}", kind, dtype="uint8", device="cpu")
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    files("JPEG files, centre-cropped", source, count)

    def make() -> None:
        shutil.rmtree(out, ignore_errors=True)
        if kind == "data prepare":
            prepare(source, out, Options(image_size=SIDE))
        else:
            out.mkdir()
            bare_loop(source, out / "pixels-00000.npy")

    def check() -> None:
        """Assert that both write the same images."""
        make()
        bare_loop(source, tmp_path / "expected.npy")
        np.testing.assert_array_equal(np.load(out / "pixels-00000.npy"), np.load(tmp_path / "expected.npy"))

    bench.measure(Contender(make, check, items=count))


@pytest.mark.parametrize(("kind", "count"), [("JPEG files, centre-cropped", 16), (".npz", 4096)], ids=["jpeg", "npz"])
def test_files(bench: Bench, tmp_path: Path, kind: str, count: int) -> None:
    count = bench.scale.count(count)
    bench.describe("data", f"reading {count} images", kind, dtype="uint8", device="cpu")
    pixels = files(kind, tmp_path, count)

    def check() -> None:
        """Assert that the last images are the same when they are read alone."""
        last = next(iter(pixels.batches(4, count - 4)))
        images = np.concatenate(list(pixels.batches(BATCH)))
        assert len(images) == count
        np.testing.assert_array_equal(images[-4:], last)

    bench.measure(Contender(lambda: [len(batch) for batch in pixels.batches(BATCH)], check, items=count))
