"""`data verify` and `data show`."""

import json
import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffussm.data.prepared.manifest import content_digest
from diffussm.data.prepared.overview import overview
from diffussm.data.prepared.reader import PreparedImages
from diffussm.errors import UserError
from tests.support.evaluating import Run
from tests.support.prepared_set import noise_images, write_prepared


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three shards."""
    write_prepared(tmp_path / "set", noise_images(), np.arange(20) % 3, ("ant", "\u0434\u0435\u043d\u044c", "\u732b"))
    return tmp_path / "set"


def verified(diffussm: Run, folder: Path) -> tuple[int, list[str], str]:
    code, out, err = diffussm("data", "verify", folder)
    return code, out.splitlines(), err.splitlines()[-1]


def test_an_intact_set(folder: Path, diffussm: Run) -> None:
    code, lines, _ = verified(diffussm, folder)
    assert (code, lines) == (0, [f"{folder}: all files are as they were written"])


def test_a_flipped_bit_is_found_wherever_it_is(folder: Path, diffussm: Run) -> None:
    for name in ("pixels-00000.npy", "pixels-00002.npy", "labels.npy", "sha256.npy", "sources.txt"):
        intact = (folder / name).read_bytes()
        for at in (0, len(intact) // 2, len(intact) - 1):
            content = bytearray(intact)
            content[at] ^= 1
            (folder / name).write_bytes(content)
            code, lines, error = verified(diffussm, folder)
            assert (code, lines) == (2, [f"{name}: is damaged: its SHA-256 is not that of the manifest"])
            assert error == f"error: {folder}: 1 problem; restore the files, or prepare the data set again"
        (folder / name).write_bytes(intact)


def test_all_that_is_missing_or_not_of_the_set_is_named(folder: Path, diffussm: Run) -> None:
    (folder / "pixels-00001.npy").unlink()
    (folder / "labels.npy").unlink()
    (folder / "labels.npy").mkdir()
    (folder / "notes.txt").touch()
    code, lines, error = verified(diffussm, folder)
    assert code == 2
    assert lines == [
        "labels.npy: cannot be read: Is a directory",
        "pixels-00001.npy: is missing",
        "notes.txt: is no file of the data set",
    ]
    assert "3 problems" in error


MANIFESTS: dict[str, tuple[Any, str]] = {
    "cut short": (lambda m: json.dumps(m)[:99], "is damaged: not valid JSON"),
    "of a later version": (lambda m: m | {"format": 2}, "format = 2: allowed: 1"),
    "of another kind": (lambda m: m | {"kind": "latents"}, "kind = 'latents': allowed: 'pixels'"),
    "with another count": (lambda m: m | {"count": 21}, "its shards do not hold 21 images"),
    "without shards": (lambda m: m | {"shards": []}, "shards = []: allowed: a list of 1 or more"),
    "with a file elsewhere": (
        lambda m: m | {"labels": m["labels"] | {"file": "../labels.npy"}},
        "labels.file = '../labels.npy': allowed: the name of a file",
    ),
    "without its classes": (lambda m: {key: m[key] for key in m if key != "classes"}, "classes: is missing"),
    "with more": (lambda m: m | {"extra": 1}, "extra: unknown field, perhaps of a later version"),
    "with another digest": (lambda m: m | {"digest": "0" * 64}, "the content has digest"),
    "with other classes": (lambda m: m | {"classes": ["ant"]}, "the content has digest"),
    "no text": (lambda _: "\udcff", "is damaged: not valid JSON"),
    "with two channels": (lambda m: m | {"channels": 2}, "channels = 2: allowed: 1 or 3"),
    "with control characters": (
        lambda m: m | {"classes": ["a", "\x1b[31m", "c"]},
        r"classes[1] = '\x1b[31m': allowed: printable characters",
    ),
    "without arrays": (
        lambda m: m | {"shards": [*m["shards"][:2], m["shards"][2] | {"arrays": {}}]},
        "shards.2.arrays: []: allowed: pixels",
    ),
    "with other arrays": (
        lambda m: m | {"shards": [shard | {"arrays": {"latents": shard["arrays"]["pixels"]}} for shard in m["shards"]]},
        "shards.0.arrays: ['latents']: allowed: pixels",
    ),
}


@pytest.mark.parametrize("name", MANIFESTS)
@pytest.mark.parametrize("command", ["verify", "show"])
def test_a_damaged_manifest_is_one_line(name: str, command: str, folder: Path, tmp_path: Path, diffussm: Run) -> None:
    change, message = MANIFESTS[name]
    path = folder / "manifest.json"
    changed = change(json.loads(path.read_text()))
    text = changed if isinstance(changed, str) else json.dumps(changed)
    path.write_bytes(text.encode(errors="surrogateescape"))
    code, out, err = diffussm("data", command, folder)
    assert code == 2
    assert message in out + err
    assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def changed(folder: Path, labels: Any = None, **fields: Any) -> None:
    """Change the manifest, and digests and hashes so that they fit it."""
    path = folder / "manifest.json"
    m = json.loads(path.read_text()) | fields
    if labels is not None:
        np.save(folder / "labels.npy", labels)
    for key in ("labels", "image_sha256"):
        m[key]["sha256"] = sha256((folder / m[key]["file"]).read_bytes()).hexdigest()
    shape, hashes = (m["channels"], m["image_size"], m["image_size"]), np.load(folder / "sha256.npy")
    m["digest"] = content_digest(m["kind"], shape, len(m["classes"]), hashes.data, np.load(folder / "labels.npy").data)
    path.write_text(json.dumps(m))


def swap_hashes(folder: Path) -> None:
    hashes = np.load(folder / "sha256.npy")
    np.save(folder / "sha256.npy", hashes[[0, 1, 2, 3, 4, 5, 6, 8, 7, *range(9, 20)]])
    changed(folder)


def other_borders(folder: Path) -> None:
    shards = json.loads((folder / "manifest.json").read_text())["shards"]
    changed(folder, shards=[shard | {"images": n} for shard, n in zip(shards, (6, 8, 6), strict=True)])


CONSISTENT: dict[str, tuple[Callable[[Path], None], str]] = {
    "too few classes": (lambda d: changed(d, classes=["ant"]), "labels.npy: is damaged: image 1 has label 1; the"),
    "no classes": (lambda d: changed(d, classes=[]), "has label 1; the manifest has no classes"),
    "a negative label": (lambda d: changed(d, np.arange(20) % 3 - 1), "labels.npy: is damaged: image 0 has label -1"),
    "other borders of shards": (other_borders, "pixels-00000.npy: is damaged: it holds uint8 (7, 3, 8, 8), expected"),
    "larger images": (lambda d: changed(d, image_size=9), "(7, 3, 8, 8), expected uint8 (7, 3, 9, 9)"),
    "huge images": (lambda d: changed(d, image_size=10**6), "has 1,472 bytes, and the manifest says 3,000,000,000,000"),
    "other hashes of images": (swap_hashes, "pixels-00001.npy: "),
}


@pytest.mark.parametrize("name", CONSISTENT)
def test_files_that_do_not_fit_each_other(name: str, folder: Path, diffussm: Run) -> None:
    """All hashes are right; verifying finds what reading refuses, which takes no memory of a size that is not there."""
    change, message = CONSISTENT[name]
    change(folder)
    code, out, err = diffussm("data", "verify", folder)
    assert (code, message in out) == (2, True), out + err
    with pytest.raises(UserError, match=re.escape(message)):
        PreparedImages(folder).take(range(20))
    assert diffussm("data", "show", folder)[0] == 2


def test_no_data_set(tmp_path: Path, diffussm: Run) -> None:
    for command in ("verify", "show"):
        code, _, err = diffussm("data", command, tmp_path)
        assert (code, err.count("\n")) == (2, 1)
        assert "not a prepared data set (no manifest.json); make one with `diffussm data prepare`" in err


def test_show(folder: Path, tmp_path: Path, diffussm: Run) -> None:
    code, out, _ = diffussm("data", "show", folder)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith(f"{folder}: 20 images of 3 x 8 x 8, transform none, 3 classes: ant, ")
    assert "3 shards of up to 7 images, 0.0 MB of pixels, flips: none" in lines
    assert [line.split()[-2] for line in lines[-4:-1]] == ["7", "7", "6"]
    assert lines[-1] == f"{tmp_path}/set.png"
    with Image.open(tmp_path / "set.png") as picture:
        assert picture.width > 8 * 64
    assert diffussm("data", "show", folder, "--out", tmp_path / "x" / "y.png")[0] == 0
    assert (tmp_path / "x" / "y.png").exists()


def test_nothing_that_moves_the_cursor_is_printed(folder: Path, diffussm: Run) -> None:
    source = json.loads((folder / "manifest.json").read_text())["source"]
    changed(folder, transform="a\x1b[31m", source=source | {"skipped": {"\n\x1b[2J": 1}}, versions={"\r": "\b"})
    code, out, _ = diffussm("data", "show", folder)
    assert (code, out.replace("\n", "").isprintable()) == (0, True)
    assert r"left out: 1 \n\x1b[2J" in out


def test_the_picture_has_the_images_of_each_class_in_its_row(folder: Path) -> None:
    picture = np.asarray(overview(PreparedImages(folder)))
    tops = []
    for label in range(3):
        first = np.repeat(np.repeat(noise_images()[label].transpose(1, 2, 0), 8, axis=0), 8, axis=1)
        tops.append(next(y for y in range(len(picture)) if np.array_equal(picture[y : y + 64, 8:72], first)))
    assert tops == sorted(tops)


def test_the_picture_of_a_set_without_classes(tmp_path: Path) -> None:
    write_prepared(tmp_path / "set", noise_images(3, (1, 200, 200)))
    picture = np.asarray(overview(PreparedImages(tmp_path / "set")))
    assert picture.shape[2] == 3
    assert (picture[:, 8 + 3 * 130 :] == 255).all()  # behind three images of 128 pixels
    assert not (picture[8:136, 8:136] == 255).all()
