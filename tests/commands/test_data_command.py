"""`diffussm data`."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest

from diffussm import cli
from tests.support.evaluating import Run
from tests.support.prepared_set import noise_images, write_prepared
from tests.support.sources import class_folders, noise, save


def test_prepare(tmp_path: Path, diffussm: Run) -> None:
    class_folders(tmp_path / "in", per_class=2)
    code, out, err = diffussm("data", "prepare", tmp_path / "in", tmp_path / "set", "--image-size", "16")
    assert (code, out) == (0, f"{tmp_path}/set\n")
    assert err.splitlines()[-2:] == [
        "6 images of 3 x 16 x 16, transform centre-crop 16, 3 classes: ant, bee, cat",
        "treated: 6 enlarged",
    ]
    code, out, err = diffussm("data", "prepare", tmp_path / "in", tmp_path / "set", "--image-size", "16")
    assert (code, out, err) == (2, "", f"error: {tmp_path}/set: already exists; remove it, or choose another name\n")


def test_it_says_why_there_are_no_classes(tmp_path: Path, diffussm: Run) -> None:
    source = class_folders(tmp_path / "in", per_class=1)
    save(source / "stray.png", noise(4, 4))
    code, _, err = diffussm("data", "prepare", source, tmp_path / "set", "--image-size", "8")
    assert code == 0
    assert "no classes: 1 image lies outside the 3 subfolders (stray.png)\n" in err
    assert "4 images of 3 x 8 x 8, transform centre-crop 8, no classes\n" in err
    code, _, err = diffussm("data", "prepare", source, tmp_path / "none", "--image-size", "8", "--labels", "none")
    assert code == 0
    assert "outside" not in err


def test_mistakes(tmp_path: Path, diffussm: Run) -> None:
    source = class_folders(tmp_path / "in", per_class=1)
    for options, message in [
        ([], "in: add --image-size S"),
        (["--image-size", "0"], "--image-size 0: allowed: 1 .. 8192"),
        (["--image-size", "x"], "should be a valid integer"),
        (["--image-size", "8", "--channels", "2"], "--channels 2: allowed: 1 or 3"),
        (["--image-size", "8", "--transform", "center-crop"], "did you mean 'centre-crop'?"),
        (["--image-size", "8", "--limit", "0"], "--limit 0: allowed: 1 .. "),
        (["--image-size", "8", "--labels", tmp_path / "no.csv"], "no.csv: no such file"),
        (["--image-size", "8", "--split", "test"], "has no splits"),
        (["--image-size", "8", "--labels", "none", "--classes", tmp_path / "c"], "have no labels to select by"),
    ]:
        code, out, err = diffussm("data", "prepare", source, tmp_path / "set", *options)
        assert (code, out) == (2, "")
        assert message in err
        assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_names_are_printed_whatever_the_encoding_of_the_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_prepared(tmp_path / "set", noise_images(2), np.arange(2), ("花", "Ä"))
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="cp1252", write_through=True))
    monkeypatch.setattr(sys, "argv", ["diffussm", "data", "show", str(tmp_path / "set")])
    assert cli.main() == 0
    assert "2 classes: \\u82b1, Ä" in printed.getvalue().decode("cp1252")
