"""Loading data, in images a second: batches of training, and images decoded from files."""

from pathlib import Path

import numpy as np
import pytest

from bench.measure import Bench, Contender
from diffussm.data.digits import scikit_learn_folder
from diffussm.data.folder import CentreCropped
from diffussm.data.load import training_data
from diffussm.data.pixels import NpzPixels, Pixels, write_npz

BATCH, SIDE = 256, 256


@pytest.mark.parametrize("name", ["digits", "photos"])
def test_training_batch(bench: Bench, name: str) -> None:
    size = bench.scale.count(BATCH)
    bench.describe("data", f"a batch of {size} images that trains", name, device="cpu")
    data, steps = training_data(name), iter(range(10**9))

    def check() -> None:
        """A batch is a function of seed and step, and its second half the same as when it is asked for alone."""
        whole, half = data.batch(0, 3, size), data.batch(0, 3, size, size // 2)
        np.testing.assert_array_equal(whole.pixels[size // 2 :], half.pixels)

    bench.measure(Contender(lambda: data.batch(0, next(steps), size), check, items=size))


def files(kind: str, folder: Path, count: int) -> Pixels:
    """Photographs as files of JPEG, through the transform of ADM and DiT; or images of 64 x 64 in an .npz."""
    if kind == "JPEG files, centre-cropped":
        for number in range(count):
            name = ("china.jpg", "flower.jpg")[number % 2]
            (folder / f"{number}.jpg").write_bytes((scikit_learn_folder() / "datasets/images" / name).read_bytes())
        return CentreCropped(folder, SIDE)
    images = np.random.default_rng(0).integers(0, 256, (count, 3, 64, 64), dtype=np.uint8)
    write_npz(folder / "images.npz", (3, 64, 64), count, iter([images]))
    return NpzPixels(folder / "images.npz")


@pytest.mark.parametrize(("kind", "count"), [("JPEG files, centre-cropped", 16), (".npz", 4096)], ids=["jpeg", "npz"])
def test_files(bench: Bench, tmp_path: Path, kind: str, count: int) -> None:
    count = bench.scale.count(count)
    bench.describe("data", f"reading {count} images", kind, dtype="uint8", device="cpu")
    pixels = files(kind, tmp_path, count)

    def check() -> None:
        """The last ones asked for alone are the last ones of all."""
        last = next(iter(pixels.batches(4, count - 4)))
        whole = np.concatenate(list(pixels.batches(BATCH)))
        assert len(whole) == count
        np.testing.assert_array_equal(whole[-4:], last)

    bench.measure(Contender(lambda: [len(batch) for batch in pixels.batches(BATCH)], check, items=count))
