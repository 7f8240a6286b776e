"""LSUN's LMDB: its listing and images are those that lmdb finds, and nothing is written beside it."""

import os
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffussm.data.prepared.reader import PreparedImages
from diffussm.data.preparing.prepare import prepare
from diffussm.data.preparing.recipe import Options
from diffussm.data.sources.base import Broken, Entry
from diffussm.data.sources.detect import open_source
from diffussm.data.sources.image_file import decode
from diffussm.data.sources.lsun import structure
from diffussm.data.sources.lsun.structure import keys_and_sizes
from diffussm.data.transforms import LSUN, TRANSFORMS, as_array
from diffussm.errors import UserError
from diffussm.metrics.reference.file import ReferenceFile
from tests.support.evaluating import Run
from tests.support.sources import open_lmdb, webp_images, write_lsun

CHURCHES = "church_outdoor_train_lmdb"


def found_by_lmdb(folder: Path) -> dict[bytes, bytes]:
    with open_lmdb(folder, readonly=True, lock=False) as environment, environment.begin() as reading:
        return dict(reading.cursor())


def test_its_images_in_the_order_of_their_keys(tmp_path: Path) -> None:
    images = webp_images(5)
    write_lsun(tmp_path / CHURCHES, dict(reversed(images.items())))
    (tmp_path / CHURCHES / "lock.mdb").unlink()
    source = open_source(tmp_path / CHURCHES)
    found = source.listed()
    assert (source.kind, source.shape, found.classes, found.skipped) == ("lsun", None, (), {})
    assert [entry.name.encode() for entry in found.entries] == list(images)
    assert [entry.size for entry in found.entries] == [len(image) for image in images.values()]
    other = pickle.loads(pickle.dumps(source))
    assert [other.read(entry) for entry in reversed(found.entries)] == list(images.values())[::-1]
    assert source.naming(found.entries[0]) == f"{tmp_path / CHURCHES}: {next(iter(images)).decode()}"
    assert sorted(os.listdir(tmp_path / CHURCHES)) == ["data.mdb"]  # no lock, no list of keys
    with pytest.raises(Broken, match="is missing"):
        source.read(Entry("0", 1))


def test_the_split_is_that_of_its_name(tmp_path: Path) -> None:
    train, val = webp_images(3), webp_images(2)
    write_lsun(tmp_path / CHURCHES, train)
    write_lsun(tmp_path / "church_outdoor_val_lmdb", val)
    for path, split, expected in [
        (tmp_path, "", train),
        (tmp_path, "train", train),
        (tmp_path, "val", val),
        (tmp_path / CHURCHES, "train", train),
        (tmp_path / "church_outdoor_val_lmdb", "", val),
    ]:
        source = open_source(path, split)
        assert [source.read(entry) for entry in source.listed().entries] == list(expected.values())
    write_lsun(tmp_path / "bedroom_train_lmdb", train)
    write_lsun(tmp_path / "renamed", train)
    for path, split, message in [
        (tmp_path / CHURCHES, "val", "--split val: these are the images of train"),
        (tmp_path / "renamed", "val", "--split val: this folder is not named <class>_val_lmdb"),
        (tmp_path, "test", r"holds no folder <class>_test_lmdb; choose another with --split"),
        (tmp_path, "", r"several classes of LSUN \(bedroom_train_lmdb, church_outdoor_train_lmdb\); give the folder"),
    ]:
        with pytest.raises(UserError, match=message):
            open_source(path, split)
    assert len(open_source(tmp_path / "renamed").listed().entries) == 3


def numbers(seed: int) -> dict[bytes, bytes]:
    """Values of all sizes about those at which lmdb stores them elsewhere."""
    generator = np.random.default_rng(seed)
    sizes = [
        *range(40),
        *range(1990, 2060),
        *range(4060, 4100),
        *range(8150, 8200),
        *generator.integers(0, 30_000, 50),
    ]
    return {generator.bytes(int(generator.integers(1, 500))): generator.bytes(int(size)) for size in sizes}


@pytest.mark.parametrize(
    "values",
    [numbers(0), numbers(1), {b"%09d" % n: b"x" * (n % 90) for n in range(12_000)}, {b"a": b""}],
    ids=["sizes", "other sizes", "three levels", "one"],
)
def test_the_structure_is_what_lmdb_finds(tmp_path: Path, values: dict[bytes, bytes]) -> None:
    write_lsun(tmp_path / "a", values)
    expected = [(key, len(value)) for key, value in found_by_lmdb(tmp_path / "a").items()]
    assert len(expected) == len(values)
    assert list(keys_and_sizes(tmp_path / "a/data.mdb")) == expected
    with open_lmdb(tmp_path / "a") as environment, environment.begin(write=True) as writing:
        for key, _ in expected[1::2]:
            writing.delete(key)  # leaves free pages
    assert list(keys_and_sizes(tmp_path / "a/data.mdb")) == expected[::2]


def test_listing_reads_no_image_and_each_page_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lsun(tmp_path, {b"%04d" % n: bytes(20_000) for n in range(400)})
    pages: list[int] = []

    def pread(file: int, size: int, offset: int, real: Any = os.pread) -> bytes:
        pages.append(offset)
        return real(file, size, offset)

    monkeypatch.setattr(structure.os, "pread", pread)
    assert len(list(keys_and_sizes(tmp_path / "data.mdb"))) == 400
    assert len(pages) == len(set(pages))
    assert len(pages) <= 10  # of 2,000


def test_threads_and_forks_read_at_the_same_time(tmp_path: Path) -> None:
    source = open_source(write_lsun(tmp_path, images := webp_images(40)))
    entries = source.listed().entries
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(source.read, entries * 5)) == list(images.values()) * 5
    child = os.fork()
    if not child:
        os._exit(0 if source.read(entries[3]) == list(images.values())[3] else 1)
    assert os.waitpid(child, 0)[1] == 0
    write_lsun(tmp_path / "new", {b"z": b"new"})
    (tmp_path / "new/data.mdb").replace(tmp_path / "data.mdb")
    assert source.read(source.listed().entries[0]) == b"new"  # a new listing is one of the file that is there now


def test_prepared_as_adm_takes_it(tmp_path: Path) -> None:
    """From the LMDB, and from a folder of the same images."""
    images = webp_images(6, width=31, height=25)
    write_lsun(tmp_path / CHURCHES, images)
    (tmp_path / "in").mkdir()
    for key, image in images.items():
        (tmp_path / "in" / f"{key.decode()}.webp").write_bytes(image)
    expected = np.stack([as_array(TRANSFORMS[LSUN](decode(image).image, 8)) for image in images.values()])
    manifest = prepare(tmp_path / CHURCHES, tmp_path / "lmdb", Options(image_size=8))
    assert (manifest.transform, manifest.classes, manifest.source.kind) == ("lsun 8", (), "lsun")
    assert np.array_equal(PreparedImages(tmp_path / "lmdb").take(range(6)).pixels, expected)
    of_folder = prepare(tmp_path / "in", tmp_path / "files", Options(image_size=8, transform="lsun"))
    assert of_folder.digest == manifest.digest
    cropped = prepare(
        tmp_path / CHURCHES, tmp_path / "crop", Options(image_size=8, transform="centre-crop", split="train")
    )
    assert cropped.transform == "centre-crop 8"
    assert cropped.digest != manifest.digest


def test_a_reference_of_it(tmp_path: Path, diffussm: Run) -> None:
    """From the LMDB, and from a folder of the same images."""
    images = webp_images(4, width=31, height=25)
    write_lsun(tmp_path / CHURCHES, images)
    (tmp_path / "in").mkdir()
    for key, image in images.items():
        (tmp_path / "in" / f"{key.decode()}.webp").write_bytes(image)
    for source, out, more in ((CHURCHES, "a.npz", ()), ("in", "b.npz", ("--transform", "lsun")), ("in", "c.npz", ())):
        build = "reference", "build", tmp_path / source, tmp_path / out, "--image-size", 8, "--no-statistics", *more
        assert diffussm(*build)[0] == 0
    first, second, cropped = (ReferenceFile(tmp_path / name) for name in ("a.npz", "b.npz", "c.npz"))
    assert first.metadata["transform"] == second.metadata["transform"] == "lsun 8"
    assert cropped.metadata["transform"] == "centre-crop 8"
    found = [np.load(file.path)["arr_0"] for file in (first, second, cropped)]
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_an_image_that_is_damaged(tmp_path: Path) -> None:
    images = webp_images(3)
    key = list(images)[1]
    write_lsun(tmp_path / CHURCHES, images | {key: images[key][:-20]})
    with pytest.raises(
        UserError, match=f"{CHURCHES}: {key.decode()}: is damaged or not an image; --skip-broken leaves"
    ):
        prepare(tmp_path / CHURCHES, tmp_path / "a", Options(image_size=8))
    assert prepare(tmp_path / CHURCHES, tmp_path / "b", Options(image_size=8, skip_broken=True)).count == 2


def test_without_lmdb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lsun(tmp_path, webp_images(1))
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(UserError, match="LSUN's LMDB needs the package lmdb, the extra `lsun`; pip install lmdb"):
        open_source(tmp_path).listed()


def test_keys_in_any_bytes(tmp_path: Path) -> None:
    (image,) = webp_images(1).values()
    source = open_source(write_lsun(tmp_path, {b"\xff\n\x00": image, b"caf\xc3\xa9": image}))
    entries = source.listed().entries
    assert [source.naming(entry).rpartition(": ")[2] for entry in entries] == ["caf\u00e9", r"\udcff\n\x00"]
    assert [source.read(entry) for entry in entries] == [image, image]
