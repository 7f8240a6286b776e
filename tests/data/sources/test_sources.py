"""Each kind of source lists its images in their order, with labels, and reads them."""

import gzip
import os
import pickle
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from diffussm.data.preparing.images import SourceImages
from diffussm.data.preparing.recipe import Options
from diffussm.data.preparing.selection import select
from diffussm.data.sources.base import Broken, Source, printable
from diffussm.data.sources.detect import open_source
from diffussm.data.sources.zip import ZipOfImages
from diffussm.errors import UserError
from tests.support.sources import (
    class_folders,
    encoded,
    idx,
    noise,
    pack_tar,
    pack_zip,
    save,
    write_cifar,
    write_mnist,
    write_tar,
)


def contents(source: Source) -> list[object]:
    """What is read of it by another process, which knows the entries alone."""
    found = source.listed()
    other = pickle.loads(pickle.dumps(source))
    return [other.read(entry) for entry in found.entries]


def labels(source: Source) -> list[int | None]:
    return [entry.label for entry in source.listed().entries]


def test_a_folder_of_splits(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        class_folders(tmp_path / split, per_class=1)
    assert open_source(tmp_path, "train").listed().classes == ("ant", "bee", "cat")
    assert open_source(tmp_path, "val").path == tmp_path / "valid"
    assert len(open_source(tmp_path).listed().entries) == 6
    with pytest.raises(UserError, match=r"--split test: this source \(folder\) has no splits"):
        open_source(tmp_path, "test")
    with pytest.raises(UserError, match="the folders train, valid are splits, not classes: give the path of one of th"):
        SourceImages(tmp_path, Options(image_size=4))
    packed = ZipOfImages(pack_zip(tmp_path / "set.zip", {"train/a/1.png": b"", "test/a/1.png": b""}))
    with pytest.raises(UserError, match="the folders test, train are splits, not classes"):
        select(packed.listed(), "auto", None, None)
    assert len(select(packed.listed(), "none", None, None).entries) == 2


def test_folder_with_classes(tmp_path: Path) -> None:
    source = open_source(class_folders(tmp_path, per_class=2))
    found = source.listed()
    assert source.kind == "folder"
    assert [entry.name for entry in found.entries] == [f"{c}/{i}.png" for c in ("ant", "bee", "cat") for i in (0, 1)]
    assert found.classes == ("ant", "bee", "cat")
    assert labels(source) == [0, 0, 1, 1, 2, 2]
    assert contents(source) == [(tmp_path / entry.name).read_bytes() for entry in found.entries]
    assert not found.unlabelled
    save(tmp_path / "x.png", noise(4, 4))  # one image is in no class: none has a label
    assert source.listed().classes == ()
    assert source.listed().unlabelled == "1 image lies outside the 3 subfolders (x.png)"
    save(tmp_path / "y.png", noise(4, 4))
    assert source.listed().unlabelled == "2 images lie outside the 3 subfolders (such as x.png)"
    packed = ZipOfImages(pack_zip(tmp_path / "set.zip", {"a/1.png": b"", "b/1.png": b"", "c.png": b""}))
    assert packed.listed().unlabelled == "1 image lies outside the 2 subfolders (c.png)"


def test_a_single_folder_is_no_class(tmp_path: Path) -> None:
    found = open_source(class_folders(tmp_path, classes=("images",))).listed()
    assert (found.classes, found.unlabelled) == ((), "")
    save(tmp_path / "x.png", noise(4, 4))
    assert open_source(tmp_path).listed().unlabelled == ""


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9\n.png")
    save(tmp_path / "a.png", noise(4, 4)).rename(tmp_path / name)
    source = open_source(tmp_path)
    entry = source.listed().entries[0]
    assert entry.name == name
    assert source.naming(entry) == f"{tmp_path}/caf\\udce9\\n.png"
    assert source.read(entry) == (tmp_path / name).read_bytes()
    assert printable("\u4e2d \u00e4") == "\u4e2d \u00e4"
    assert printable("a\\n") == "a\\\\n"


def test_a_file_that_cannot_be_read_is_broken(tmp_path: Path) -> None:
    save(tmp_path / "a.png", noise(4, 4))
    (tmp_path / "b.png").symlink_to("nowhere")
    source = open_source(tmp_path)
    with pytest.raises(Broken, match=r"cannot be read \(No such file"):
        source.read(source.listed().entries[1])


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("split", "first", "last"), [("train", 0, 15), ("test", 15, 18)])
def test_cifar10(tmp_path: Path, packed: bool, split: str, first: int, last: int) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    records = write_cifar(folder)[first:last]
    path = pack_tar(tmp_path / "cifar-10-binary.tar.gz", folder, folder.name) if packed else tmp_path
    source = open_source(path, split)
    assert (source.kind, source.shape) == ("cifar10", (3, 32, 32))
    assert labels(source) == list(records[:, 0])
    assert source.listed().classes[3] == "cat"
    assert source.listed().entries[1].name.endswith(".bin/00001")
    planes = np.stack([np.asarray(image).transpose(2, 0, 1) for image in contents(source)])  # (N, C, H, W)
    assert np.array_equal(planes, records[:, 1:].reshape(-1, 3, 32, 32))


def test_idx(tmp_path: Path) -> None:
    images = np.stack([noise(7, 7, seed, 1) for seed in range(5)])
    write_mnist(tmp_path, images, np.array([4, 0, 1, 1, 2], np.uint8))
    test = write_mnist(tmp_path, images[::-1], np.zeros(5, np.uint8), stem="t10k")
    for path, split, expected in ((tmp_path, "", images), (tmp_path, "test", images[::-1]), (test, "", images[::-1])):
        source = open_source(path, split)
        assert (source.kind, source.shape) == ("idx", (1, 7, 7))
        assert np.array_equal(np.stack(contents(source)), expected[..., None])
    source = open_source(tmp_path)
    assert labels(source) == [4, 0, 1, 1, 2]
    assert source.listed().classes == ("0", "1", "2", "3", "4")
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    assert open_source(tmp_path).listed().classes == ()


def test_idx_of_colours_under_any_name(tmp_path: Path) -> None:
    images = np.stack([noise(6, 5, seed) for seed in range(3)])
    (tmp_path / "colours").write_bytes(idx(images))
    source = open_source(tmp_path / "colours")
    assert source.shape == (3, 6, 5)
    assert np.array_equal(np.stack(contents(source)), images)


@pytest.mark.parametrize("save_npz", [np.savez, np.savez_compressed])
def test_npz(tmp_path: Path, save_npz: object) -> None:
    images = np.stack([noise(6, 6, seed) for seed in range(150)])
    save_npz(tmp_path / "a.npz", images, np.arange(150) % 4)  # type: ignore[operator]
    source = open_source(tmp_path / "a.npz")
    assert source.shape == (3, 6, 6)
    assert np.array_equal(np.stack(contents(source)), images)
    assert labels(source) == list(np.arange(150) % 4)
    entries = source.listed().entries
    for number in (149, 3, 4, 80, 7):  # in any order
        assert np.array_equal(source.read(entries[number]), images[number])


@pytest.mark.parametrize("save_npz", [np.savez, np.savez_compressed])
def test_threads_read_an_npz(tmp_path: Path, save_npz: object) -> None:
    images = np.stack([noise(6, 6, seed) for seed in range(150)])
    save_npz(tmp_path / "a.npz", images)  # type: ignore[operator]
    source = open_source(tmp_path / "a.npz")
    entries = source.listed().entries
    between = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            assert np.array_equal(np.stack(list(threads.map(source.read, entries))), images)
    finally:
        sys.setswitchinterval(between)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip(tmp_path: Path, method: int) -> None:
    a, b = encoded_noise(0), encoded_noise(1)
    members = {
        "set/b/1.png": b,
        "set/a/\u4e2d.PNG": a,
        "set/a/readme.txt": b"x",
        "__MACOSX/set/a/._1.png": b"x",
        "set/.hidden/1.png": a,
    }
    source = open_source(pack_zip(tmp_path / "a.zip", members, method))
    found = source.listed()
    assert [entry.name for entry in found.entries] == ["a/\u4e2d.PNG", "b/1.png"]
    assert found.classes == ("a", "b")
    assert found.skipped == {"in hidden folders": 2, "with other suffixes (.txt)": 1}
    assert contents(source) == [a, b]


def encoded_noise(seed: int) -> bytes:
    from PIL import Image

    return encoded(Image.fromarray(noise(9, 9, seed)))


def test_names_in_a_zip_lead_nowhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    members = {"../../outside.png": encoded_noise(0), "/etc/a.png": encoded_noise(1), "c:\\x\\b.png": encoded_noise(2)}
    source = open_source(pack_zip(tmp_path / "a.zip", members))
    assert [entry.name for entry in source.listed().entries] == ["c:/x/b.png", "etc/a.png"]
    assert source.listed().skipped == {"in hidden folders": 1}
    assert contents(source) == [encoded_noise(2), encoded_noise(1)]
    assert not outside.exists()


def test_a_changed_byte_in_a_zip_is_found(tmp_path: Path) -> None:
    path = pack_zip(tmp_path / "a.zip", {"1.png": encoded_noise(0)}, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 20] ^= 1
    path.write_bytes(content)
    with pytest.raises(Broken, match="length or CRC"):
        contents(open_source(path))


def test_webdataset(tmp_path: Path) -> None:
    a, b, c = (encoded_noise(seed) for seed in range(3))
    (tmp_path / "set").mkdir()
    write_tar(tmp_path / "set" / "1.tar", {"x.png": c, "x.cls": b"0"})
    first = write_tar(
        tmp_path / "set" / "0.tar", {"9.cls": b"2\n", "9.jpg": a, "9.json": b"{}", "d/8.png": b, "d/8.cls": b"1"}
    )
    source = open_source(tmp_path / "set")
    found = source.listed()
    assert source.kind == "webdataset"
    assert [entry.name for entry in found.entries] == ["0.tar/9.jpg", "0.tar/d/8.png", "1.tar/x.png"]
    assert found.skipped == {"with other suffixes (.json)": 1}
    assert found.classes == ("0", "1", "2")
    assert labels(source) == [2, 1, 0]
    assert contents(source) == [a, b, c]
    assert contents(open_source(first)) == [a, b]
    for members, message in [
        ({"1.png": a, "1.cls": b"0", "2.png": b}, "2.png: has no .cls beside it"),
        ({"1.png": a, "1.cls": b"cat"}, "1.cls: is no class; allowed: a number from 0"),
        ({"1.txt": b""}, "holds no images"),
    ]:
        with pytest.raises(UserError, match=message):
            open_source(write_tar(tmp_path / "x.tar", members)).listed()
    (tmp_path / "x.tar").write_bytes(gzip.compress(first.read_bytes()))
    with pytest.raises(UserError, match=r"x\.tar: is damaged or not an uncompressed \.tar"):
        open_source(tmp_path / "x.tar").listed()
    assert open_source(write_tar(tmp_path / "x.tar", {"1.png": a})).listed().classes == ()


def test_splits(tmp_path: Path) -> None:
    class_folders(tmp_path / "a")
    for split, message in (("test", "has no splits"), ("valid", "--split valid: allowed: train, val, test")):
        with pytest.raises(UserError, match=message):
            open_source(tmp_path / "a", split)
    write_cifar(tmp_path / "c")
    with pytest.raises(UserError, match="this source has train and test"):
        open_source(tmp_path / "c", "val")
    write_mnist(tmp_path / "m", np.zeros((2, 3, 3), np.uint8), np.zeros(2, np.uint8))
    (tmp_path / "m" / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((2, 3, 3), np.uint8)))  # the same, unpacked
    assert open_source(tmp_path / "m").path.name == "train-images-idx3-ubyte"
    (tmp_path / "m" / "more-train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b""))
    with pytest.raises(UserError, match="3 files of images go with it"):
        open_source(tmp_path / "m")
