"""What no data set can be made of: one line that says why, exit code 2, and nothing is written."""

import gzip
import json
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffussm.data.sources import base
from tests.support.evaluating import Run
from tests.support.hostile_sources import (
    PNG,
    Make,
    S,
    bomb,
    cifar,
    classes,
    cut_tar,
    empty,
    encrypted,
    fifo,
    fifo_of_labels,
    file,
    folder_as_image,
    labels,
    lmdb_file,
    loop,
    method,
    mnist,
    newline,
    no_utf8,
    npz,
    one_file,
    pickled,
    twice,
    zipped,
)
from tests.support.sources import CIFAR_TRAIN, class_folders, encoded, idx, noise

IMAGES = np.zeros((3, 4, 4, 3), np.uint8)
DEEP = np.full((9, 9), 40_000, np.uint16)
HOSTILE: dict[str, tuple[Make, str]] = {
    "no such source": (lambda tmp: (tmp / "absent", *S), r"absent: no such file or folder"),
    "an empty folder": (empty, r"in: holds no images \(\.jpg"),
    "a folder named as an image": (folder_as_image, r"in: holds no images"),
    "a pipe": (fifo, r"pipe: is neither a regular file nor a folder"),
    "a text": (file("notes.txt", b"hello", *S), r"notes\.txt: is none of what is read: a folder of images"),
    "an empty file": (file("a.bin", b"", *S), r"a\.bin: is none of what is read"),
    "a single image": (file("a.png", PNG, *S), r"a\.png: is none of what is read"),
    "an empty image": (one_file("b.png", b""), r"in/b\.png: is empty; --skip-broken leaves out"),
    "a page that was not found": (one_file("b.jpg", b"<html>"), r"b\.jpg: is damaged or not an image"),
    "a cut PNG": (one_file("b.png", PNG[:-30]), r"b\.png: is damaged or not an image"),
    "a cut JPEG": (one_file("b.jpg", encoded(Image.fromarray(noise(99, 99)), "JPEG")[:-300]), r"b\.jpg: is damaged"),
    "a PNG with a flipped bit": (one_file("b.png", PNG[:60] + b"?" + PNG[61:]), r"b\.png: is damaged"),
    "a PNG of zero pixels": (one_file("b.png", PNG[:16] + bytes(8) + PNG[24:]), r"b\.png: is damaged"),
    "16 bits": (one_file("b.png", encoded(Image.fromarray(DEEP))), r"b\.png: has more than 8 bits a channel"),
    "floating point": (
        one_file("b.tif", encoded(Image.fromarray(noise(9, 9, 0, 1)).convert("F"), "TIFF")),
        r"b\.tif: has more than 8 bits a channel \(TIFF of mode F\)",
    ),
    "too many pixels": (
        one_file("b.png", encoded(Image.new("1", (2000, 1000))), "--max-pixels", "1999999"),
        r"b\.png: has too many pixels \(2000 x 1000; allowed: 1,999,999\); --max-pixels N allows more",
    ),
    "a PNG that claims 2^31 pixels a side": (
        one_file("b.png", b"\x89PNG\r\n\x1a\n" + PNG[8:16] + struct.pack(">II", 2**31 - 1, 2**31 - 1) + PNG[24:]),
        r"b\.png: is damaged|b\.png: has too many pixels",
    ),
    "a strip": (
        one_file("b.png", encoded(Image.new("L", (60_000, 1))), "--image-size", "128"),
        r"b\.png: does not fit \(is 60000 x 1 pixels, a strip that is too long",
    ),
    "an ICO": (one_file("b.png", encoded(Image.fromarray(noise(16, 16)), "ICO")), r"b\.png: is damaged or not an"),
    "a PDF": (one_file("b.jpg", encoded(Image.fromarray(noise(16, 16)), "PDF")), r"b\.jpg: is damaged or not an"),
    "a link to itself": (loop, r"b\.png: cannot be read \(Too many levels of symbolic links\)"),
    "a name of two lines": (newline, r"in/a\\nerror: b\\x1b\[31m\.png: is empty"),
    "a name that is no UTF-8": (no_utf8, r"in/\\+udcff\.png: is damaged"),
    "another size": (one_file("b.png", PNG, "--transform", "none"), r"--image-size 8: its images have 9 x 9"),
    "no zip": (file("a.zip", b"no zip", *S), r"a\.zip: is damaged or not a \.zip"),
    "a cut zip": (zipped({"a.png": PNG}, lambda c: c[:-30]), r"a\.zip: is damaged or not a zip"),
    "an empty zip": (zipped({}), r"a\.zip: holds no images"),
    "a zip without images": (zipped({"a.txt": b"x"}), r"left out: 1 with other suffixes \(\.txt\)"),
    "an encrypted zip": (zipped({"a.png": PNG}, encrypted), r"a\.zip: a\.png: is encrypted"),
    "a zip of another method": (zipped({"a.png": PNG}, method), r"a\.png: is compressed in a way that is not read"),
    "a zip bomb": (zipped({"a.png": PNG}, bomb), r"a\.png: would expand from \d+ to 2,000,000,000 bytes: a zip bomb"),
    "a zip with a name twice": (twice, r"a\.zip: has two members of the name a\.png"),
    "an empty image in a zip": (zipped({"x/a.png": b"", "b.png": PNG}), r"a\.zip: x/a\.png: is empty"),
    "a zip with a changed member": (
        zipped({"a.png": PNG}, lambda c: c[:60] + bytes([c[60] ^ 1]) + c[61:]),
        r"a\.png: is damaged \(it",
    ),
    "CIFAR-10 of the wrong size": (
        cifar(lambda c: (c / CIFAR_TRAIN[1]).write_bytes(bytes(3074))),
        r"data_batch_2\.bin: is damaged: 3,074 bytes are not a number of records",
    ),
    "CIFAR-10 without a file": (
        cifar(lambda c: (c / CIFAR_TRAIN[4]).unlink()),
        r"data_batch_5\.bin: no such file",
    ),
    "packed CIFAR-10 without a file": (
        cifar(lambda c: (c / CIFAR_TRAIN[4]).unlink(), packed=True),
        r"c\.tar\.gz: holds no data_batch_5\.bin; needed is the binary version",
    ),
    "CIFAR-10 with a label 200": (
        cifar(lambda c: (c / CIFAR_TRAIN[0]).write_bytes(bytes([200]) + bytes(3072))),
        r"data_batch_1\.bin: is damaged, or not of CIFAR-10: image 0 has label 200",
    ),
    "an empty CIFAR-10": (cifar(lambda c: (c / CIFAR_TRAIN[0]).write_bytes(b"")), r"0 bytes are not a number"),
    "pickles": (pickled, r"p: holds CIFAR-10 as Python pickles, which are not read"),
    "no tar": (file("a.tar.gz", b"no tar"), r"a\.tar\.gz: is damaged or not a \.tar\.gz"),
    "a cut tar": (cut_tar, r"c\.tar\.gz: is damaged or not a \.tar\.gz"),
    "idx that is cut short": (mnist(gzip.compress(idx(np.zeros((3, 4, 4), np.uint8))[:-1])), r"has fewer bytes"),
    "idx with bytes behind": (mnist(gzip.compress(idx(np.zeros((3, 4, 4), np.uint8)) + b"x")), r"has more bytes"),
    "idx that claims 2^96 bytes": (
        mnist(gzip.compress(struct.pack(">HBB3I", 0, 8, 3, *[2**32 - 1] * 3))),
        r"its header says uint8 \(4294967295, 4294967295, 4294967295\), and it has fewer bytes",
    ),
    "idx of 255 dimensions": (mnist(gzip.compress(b"\0\0\x08\xff" + bytes(1020))), r"is damaged or not an idx file"),
    "idx of floating point": (mnist(gzip.compress(struct.pack(">HBBI", 0, 13, 1, 0))), r"damaged or not an idx file"),
    "idx of labels as images": (mnist(gzip.compress(idx(np.zeros(3, np.uint8)))), r"holds uint8 \(3,\); images are"),
    "idx without images": (mnist(gzip.compress(idx(np.zeros((0, 4, 4), np.uint8)))), r"uint8 \(0, 4, 4\); images are"),
    "idx that is no gzip": (mnist(b"no gzip"), r"images-idx3-ubyte\.gz: is damaged or not a gzip file"),
    "a cut gzip": (mnist(gzip.compress(idx(np.zeros((3, 4, 4), np.uint8)))[:-9]), r"is damaged or not a gzip file"),
    "other labels than images": (mnist(None, idx(np.zeros(4, np.uint8))), r"labels of shape \(4,\), for 3 images"),
    "an empty file of labels": (mnist(None, b""), r"labels-idx1-ubyte: is damaged or not an idx file"),
    "no .npz": (file("a.npz", b"no npz"), r"a\.npz: is damaged or not an \.npz"),
    "an .npz without images": (npz(mu=np.zeros(3)), r"contains no array arr_0"),
    "an .npz of floating point": (npz(arr_0=IMAGES / 2), r"arr_0: is float64; allowed: uint8"),
    "an .npz of channels first": (npz(arr_0=IMAGES.transpose(0, 3, 1, 2)), r"has shape \(3, 3, 4, 4\); allowed"),
    "an .npz of objects": (
        npz(arr_0=np.array([{"a": 1}], dtype=object)),
        r"arr_0: holds Python objects, which are not loaded",
    ),
    "an .npz with too few labels": (npz(arr_0=IMAGES, arr_1=np.zeros(2, int)), r"arr_1: is int64 \(2,\); labels are"),
    "an .npz with pickled labels": (npz(arr_0=IMAGES, arr_1=np.array(["a", 1, None], object)), r"holds Python objects"),
    "an .npz with negative labels": (npz(arr_0=IMAGES, arr_1=np.array([0, -1, 2])), r"arr_1: its labels are -1 \.\. 2"),
    "an .npz with one-hot labels": (npz(arr_0=IMAGES, arr_1=np.eye(3)), r"arr_1: is float64 \(3, 3\); labels are"),
    "an .npz of oblong images": (npz(arr_0=np.zeros((3, 4, 5, 3), np.uint8)), r"has images of 5 x 4 pixels; add --tr"),
    "an option for image files with arrays": (
        lambda tmp: (*npz(arr_0=IMAGES)(tmp), "--max-pixels", "5"),
        r"--max-pixels: not used: .*a\.npz holds arrays",
    ),
    "broken images left out of arrays": (
        lambda tmp: (*cifar(lambda _: None)(tmp), "--skip-broken"),
        r"--skip-broken: not used: .*c holds arrays",
    ),
    "a split that idx files do not have": (
        lambda tmp: (*mnist()(tmp), "--split", "val"),
        r"--split val: 0 files of images go with it \(train-images-idx3-ubyte\.gz\)",
    ),
    "an LMDB of garbage": (lmdb_file(lambda c: b"?" * len(c)), r"data\.mdb: is damaged, incomplete or not an LMDB"),
    "an LMDB that is cut": (lmdb_file(lambda c: c[:-1]), r"data\.mdb: is damaged, incomplete .* do not include"),
    "an LMDB with a page of zeros": (
        lmdb_file(lambda c: c[:8192] + bytes(4096) + c[12288:]),
        r"data\.mdb: is damaged, incomplete or not an LMDB",
    ),
    "an LMDB of texts": (lmdb_file(bytes, b"hello"), r"a_train_lmdb: k: is damaged or not an image; --skip-broken"),
    "another split of LSUN": (lmdb_file(bytes, PNG, "--split", "val"), r"--split val: these are the images of train"),
    "JSON that is cut": (labels("l.json", '{"labels": [["ant/0.png"'), r'l\.json: is not of the form \{"labels"'),
    "JSON that is a list": (labels("l.json", '[["ant/0.png", 1]]'), r'l\.json: is not of the form \{"labels"'),
    "a list with zero bytes": (labels("l.csv", "ant/0.png,a\0\n"), r"l\.csv: is not text in UTF-8: it holds zero"),
    "splits as classes": (
        lambda tmp: (class_folders(tmp / "in", 1, ("train", "val")), *S),
        r"error: the folders train, val are splits, not classes: give the path of one of them, or --split",
    ),
    "JSON of something else": (labels("l.json", '{"images": []}'), r'l\.json: is not of the form \{"labels"'),
    "JSON without labels": (labels("l.json", '{"labels": null}'), r"labels: allowed: a list"),
    "JSON that is deep": (labels("l.json", '{"labels": ' + "[" * 100_000), r'l\.json: is not of the form \{"labels"'),
    "a label that is no number": (labels("l.json", '{"labels": [["ant/0.png", true]]}'), r"labels\[0\]: allowed"),
    "a label of 10^12": (labels("l.json", json.dumps({"labels": [["ant/0.png", 10**12]]})), r"class from 0 to 99999"),
    "an image that is not there": (labels("l.csv", "ant/0.png,1\n../x.png,2\n"), r"does not have: '\.\./x\.png'"),
    "an image with two classes": (labels("l.csv", "ant/0.png,1\nant/0.png,2\n"), r"gives 'ant/0\.png' two classes"),
    "three columns": (labels("l.csv", "ant/0.png,1,2\n"), r"l\.csv: line 1: expected `relative path,class`"),
    "an empty list": (labels("l.csv", ""), r"l\.csv: holds no line"),
    "a list that is no text": (labels("l.csv", b"\xff\xfe\0"), r"l\.csv: is not text in UTF-8"),
    "an open quote": (labels("l.csv", '"ant/0.png,1\n'), r"l\.csv: is not CSV"),
    "a list that is a pipe": (fifo_of_labels, r"labels\.csv: not a regular file"),
    "a list that is a folder": (
        lambda tmp: (class_folders(tmp / "in"), *S, "--labels", tmp),
        r": cannot be read: Is a directory",
    ),
    "an unknown class": (classes("ant\nbe\n"), r"line 2: 'be' begins with none of the 3 classes; did you .*'bee'"),
    "a class twice": (classes("ant\nbee\nant x\n"), r"classes: line 3: names class 'ant' a second time"),
    "no class": (classes("\n\n"), r"classes: names no class"),
}  # fmt: skip


def test_more_images_than_can_be_listed(tmp_path: Path, diffussm: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for make in (npz(arr_0=IMAGES), mnist()):
        (source,) = make(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(base, "MAX_IMAGES", 2)
            code, _, err = diffussm("data", "prepare", source, tmp_path / "set")
            assert (code, "holds 3 images; allowed: up to 2 in one file" in err) == (2, True), err
        with monkeypatch.context() as patch:
            patch.setattr(base.Found, "__new__", raising(MemoryError))
            code, _, err = diffussm("data", "prepare", source, tmp_path / "set")
            assert (code, err) == (2, f"error: {source}: the list of its images does not fit into memory\n")


def raising(error: type[BaseException]) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_there_are_sixty() -> None:
    assert len(HOSTILE) >= 60


@pytest.mark.parametrize("name", HOSTILE)
def test_one_line_and_nothing_is_written(name: str, tmp_path: Path, diffussm: Run) -> None:
    make, message = HOSTILE[name]
    arguments = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code, out, err = diffussm("data", "prepare", arguments[0], tmp_path / "set", *arguments[1:])
    lines = [line for line in err.splitlines() if not line.startswith("images ")]
    assert (code, out, len(lines)) == (2, "", 1), err
    assert lines[0].startswith("error: ")
    assert re.search(message, lines[0]), lines[0]
    assert sorted(tmp_path.rglob("*")) == before
