"""Preparing: what becomes of images, labels and classes, and what the data set says about it."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from diffussm.data.prepared.manifest import read_manifest
from diffussm.data.prepared.reader import PreparedImages
from diffussm.data.preparing import build as preparing
from diffussm.data.preparing.prepare import prepare
from diffussm.data.preparing.recipe import Options
from diffussm.errors import UserError
from tests.support.sources import class_folders, encoded, noise, pack_zip, save, write_cifar, write_mnist


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def names(folder: Path) -> list[str]:
    return (folder / "sources.txt").read_text().splitlines()


def guided_diffusion(content: bytes, size: int) -> NDArray[np.uint8]:
    """(size, size, 3), by the lines of ADM's `image_datasets.py`."""
    pil_image = Image.open(io.BytesIO(content)).convert("RGB")
    while min(*pil_image.size) >= 2 * size:
        pil_image = pil_image.resize(tuple(x // 2 for x in pil_image.size), resample=Image.BOX)
    scale = size / min(*pil_image.size)
    pil_image = pil_image.resize(tuple(round(x * scale) for x in pil_image.size), resample=Image.BICUBIC)
    arr = np.array(pil_image)
    crop_y = (arr.shape[0] - size) // 2
    crop_x = (arr.shape[1] - size) // 2
    return arr[crop_y : crop_y + size, crop_x : crop_x + size]


def test_images_are_cropped_as_adm_crops_them(tmp_path: Path) -> None:
    sizes = [(16, 16), (17, 33), (64, 31), (100, 75), (5, 9), (128, 200), (47, 48), (15, 15)]
    for number, (height, width) in enumerate(sizes):
        smooth = Image.fromarray(noise(3, 4, number)).resize((width, height), Image.Resampling.BICUBIC)
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{number}.jpg").write_bytes(encoded(smooth, "JPEG", quality=95))
    manifest = prepare(tmp_path / "in", tmp_path / "out", Options(image_size=16))
    expected = [guided_diffusion((tmp_path / "in" / f"{i}.jpg").read_bytes(), 16) for i in range(len(sizes))]
    found = PreparedImages(tmp_path / "out").take(np.arange(len(sizes))).pixels
    assert np.array_equal(found.transpose(0, 2, 3, 1), np.stack(expected))
    assert (manifest.transform, manifest.source.notes) == ("centre-crop 16", {"enlarged": 2})
    assert names(tmp_path / "out") == [f"{number}.jpg" for number in range(len(sizes))]


def test_what_the_manifest_says(tmp_path: Path) -> None:
    class_folders(tmp_path / "in", per_class=2)
    (tmp_path / "in" / "ant" / "notes.txt").touch()
    (tmp_path / "in" / ".ipynb_checkpoints").mkdir()
    save(tmp_path / "in" / ".ipynb_checkpoints" / "0.png", noise(4, 4))
    (tmp_path / "in" / "cat" / "2.png").write_bytes(encoded(Image.fromarray(noise(9, 9)).convert("RGBA")))
    manifest = prepare(tmp_path / "in", tmp_path / "out", Options(image_size=8))
    assert manifest == read_manifest(tmp_path / "out")
    assert (manifest.count, manifest.image_size, manifest.channels) == (7, 8, 3)
    assert manifest.classes == ("ant", "bee", "cat")
    assert manifest.source.kind == "folder"
    assert manifest.source.skipped == {"in hidden folders": 1, "with other suffixes (.txt)": 1}
    assert manifest.source.notes == {"alpha dropped": 1}
    assert {"Pillow", "numpy", "diffussm"} <= manifest.versions.keys()
    assert list(PreparedImages(tmp_path / "out").labels) == [0, 0, 1, 1, 2, 2, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_arrays_keep_their_size_and_channels(tmp_path: Path) -> None:
    records = write_cifar(tmp_path / "cifar")
    manifest = prepare(tmp_path / "cifar", tmp_path / "c", Options(split="test"))
    found = PreparedImages(tmp_path / "c")
    assert np.array_equal(found.take(range(3)).pixels.reshape(3, -1), records[15:, 1:])
    assert list(found.labels) == list(records[15:, 0])
    assert (manifest.transform, len(manifest.classes)) == ("none", 10)
    digits = np.stack([noise(6, 6, seed, 1) for seed in range(4)])
    write_mnist(tmp_path / "idx", digits, np.arange(4, dtype=np.uint8))
    prepare(tmp_path / "idx", tmp_path / "m", Options())
    assert np.array_equal(PreparedImages(tmp_path / "m").take(range(4)).pixels[:, 0], digits)
    colours = prepare(tmp_path / "idx", tmp_path / "m3", Options(channels=3))
    assert colours.source.notes == {"grey to colour": 4}
    assert np.array_equal(PreparedImages(tmp_path / "m3").take(range(4)).pixels, np.stack([digits] * 3, axis=1))
    small = prepare(tmp_path / "idx", tmp_path / "m4", Options(image_size=3, transform="centre-crop"))
    assert small.transform == "centre-crop 3"
    with pytest.raises(UserError, match=r"--image-size 3: its images have 6 x 6 pixels; add --transform centre-crop"):
        prepare(tmp_path / "idx", tmp_path / "x", Options(image_size=3))


def test_without_a_transform_all_must_have_one_size(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / "in" / f"{number}.png", noise(7, 7, number))
    manifest = prepare(tmp_path / "in", tmp_path / "out", Options(transform="none", channels=1))
    assert (manifest.image_size, manifest.transform, manifest.channels) == (7, "none", 1)
    grey = np.asarray(Image.fromarray(noise(7, 7, 1)).convert("L"))
    assert np.array_equal(PreparedImages(tmp_path / "out").take([1]).pixels[0, 0], grey)
    save(tmp_path / "in" / "3.png", noise(7, 8))
    with pytest.raises(UserError, match=r"3\.png: does not fit \(is 8 x 7 pixels, expected 7 x 7\); --skip-broken"):
        prepare(tmp_path / "in", tmp_path / "x", Options(transform="none"))


def test_labels_from_files(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "in", per_class=2)
    rows = [("ant/0.png", 3), ("cat/1.png", 0), ("bee/0.png", 3)]
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": rows}))
    (tmp_path / "labels.csv").write_text("path,class\n" + "".join(f"{name},c{label}\n" for name, label in rows))
    manifest = prepare(source, tmp_path / "json", Options(image_size=8, labels=str(tmp_path / "dataset.json")))
    assert names(tmp_path / "json") == ["ant/0.png", "bee/0.png", "cat/1.png"]
    assert list(PreparedImages(tmp_path / "json").labels) == [3, 3, 0]
    assert manifest.classes == ("0", "1", "2", "3")
    assert manifest.source.skipped == {"not in dataset.json": 3}
    manifest = prepare(source, tmp_path / "csv", Options(image_size=8, labels=str(tmp_path / "labels.csv")))
    assert manifest.classes == ("c0", "c3")
    assert list(PreparedImages(tmp_path / "csv").labels) == [1, 1, 0]
    manifest = prepare(source, tmp_path / "none", Options(image_size=8, labels="none"))
    assert manifest.classes == ()
    assert not PreparedImages(tmp_path / "none").labels.any()


def test_numbers_in_a_csv_are_sorted_as_numbers(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "in", per_class=1)
    (tmp_path / "l.csv").write_text("ant/0.png,10\nbee/0.png,9\ncat/0.png,10\n")
    assert prepare(source, tmp_path / "o", Options(image_size=8, labels=str(tmp_path / "l.csv"))).classes == ("9", "10")


def test_classes_are_selected_ordered_and_named(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "in", per_class=2, classes=("ant", "bee", "big cat", "cow"))
    file = tmp_path / "classes.txt"
    file.write_text("cow\nbig cat, Katze\n\nant\tAmeise, rote\n")
    manifest = prepare(source, tmp_path / "out", Options(image_size=8, classes=file))
    assert manifest.classes == ("cow", "Katze", "Ameise, rote")
    assert names(tmp_path / "out")[::2] == ["ant/0.png", "big cat/0.png", "cow/0.png"]
    assert list(PreparedImages(tmp_path / "out").labels) == [2, 2, 1, 1, 0, 0]
    assert manifest.source.skipped == {"of other classes": 2}
    file.write_text("ant insect\nbee insect\ncow\n")
    assert prepare(source, tmp_path / "twice", Options(image_size=8, classes=file)).classes == (
        "insect (ant)",
        "insect (bee)",
        "cow",
    )


def test_a_limit_takes_evenly_spaced_images(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "in", per_class=4)
    manifest = prepare(source, tmp_path / "out", Options(image_size=8, limit=5))
    everything = [f"{name}/{number}.png" for name in ("ant", "bee", "cat") for number in range(4)]
    assert names(tmp_path / "out") == [everything[i] for i in (0, 2, 4, 7, 9)]
    assert manifest.source.skipped == {"beyond --limit": 7}
    assert prepare(source, tmp_path / "all", Options(image_size=8, limit=100)).count == 12


def test_a_zip_gives_what_its_folder_gives(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "in")
    members = {str(path.relative_to(source)): path.read_bytes() for path in source.rglob("*.png")}
    pack_zip(tmp_path / "in.zip", members)
    folder = prepare(source, tmp_path / "a", Options(image_size=8))
    packed = prepare(tmp_path / "in.zip", tmp_path / "b", Options(image_size=8))
    assert folder.digest == packed.digest
    assert names(tmp_path / "a") == names(tmp_path / "b")


def test_broken_images_are_errors_or_listed(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "in", per_class=2)
    (source / "bee" / "0.png").write_bytes(b"")
    (source / "cat" / "1.png").write_bytes(encoded(Image.fromarray(noise(9, 9)))[:-20])
    with pytest.raises(UserError, match=r"bee/0\.png: is empty; --skip-broken leaves out such images$"):
        prepare(source, tmp_path / "sets" / "new" / "out", Options(image_size=8))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]
    manifest = prepare(source, tmp_path / "out", Options(image_size=8, skip_broken=True))
    assert names(tmp_path / "out") == ["ant/0.png", "ant/1.png", "bee/1.png", "cat/0.png"]
    assert list(PreparedImages(tmp_path / "out").labels) == [0, 0, 1, 2]
    assert manifest.source.skipped == {"broken: is damaged or not an image": 1, "broken: is empty": 1}
    assert (tmp_path / "out" / "broken.txt").read_text().splitlines() == [
        "bee/0.png\tis empty",
        "cat/1.png\tis damaged or not an image",
    ]
    for path in source.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"all 6 images are broken; the first: is empty$"):
        prepare(source, tmp_path / "none", Options(image_size=8, skip_broken=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_any_number_of_processes_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "LEAST_IMAGES", 2)
    source = class_folders(tmp_path / "in", per_class=3)
    (source / "ant" / "0.png").write_bytes(b"")
    for processes in (1, 2):
        prepare(source, tmp_path / f"{processes}", Options(image_size=8, skip_broken=True), processes)
    assert content(tmp_path / "1") == content(tmp_path / "2")
    assert len(list((tmp_path / "2").glob("pixels-*.npy"))) == 5
    with pytest.raises(UserError, match=r"ant/0\.png: is empty"):
        prepare(source, tmp_path / "x", Options(image_size=8), 2)


def test_numpy_alone_reads_it_as_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(class_folders(tmp_path / "in"), tmp_path / "sets" / "photos64", Options(image_size=64))
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text()
    names: dict[str, Any] = {}
    exec(page.partition("```python\n")[2].partition("```")[0], names)
    found = PreparedImages(tmp_path / "sets" / "photos64")
    assert np.array_equal(np.concatenate(names["shards"]), found.take(range(12)).pixels)
    assert list(names["labels"]) == list(found.labels)


def test_a_shard_has_at_most_128_mib() -> None:
    assert preparing.images_per_shard(1_281_167, 3 * 256 * 256) == 682
    assert preparing.images_per_shard(1_281_167, 3 * 32 * 32) == 20_019
    assert preparing.images_per_shard(100, 3 * 32 * 32) == 256
    assert preparing.images_per_shard(10, 1 << 30) == 1
