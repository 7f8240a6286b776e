"""Reference files of other people: what is wrong with one is said without reading its arrays."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from diffussm.metrics.reference.file import ReferenceFile
from tests.support.image_sets import images, in_file, npy, zipped

IMAGES = npy(in_file(images(4, (3, 4, 4))))


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"arr_0.npy": b""}, "arr_0: is damaged (its .npy header cannot be parsed)"),
        ({"arr_0.npy": IMAGES[:-1]}, "arr_0: is damaged (319 bytes; its header says an array of shape (4, 4, 4, 3)"),
        ({"arr_0.npy": IMAGES, "README.txt": b"of these"}, "README.txt: is damaged (its .npy header cannot be parsed)"),
        ({"arr_0.npy": npy(np.array([None]))}, "arr_0: holds Python objects"),
        ({"arr_0.npy": npy(np.zeros((4, 4, 4, 3)))}, "arr_0 is <f8 of shape (4, 4, 4, 3), not uint8"),
    ],
)
def test_what_is_wrong(tmp_path: Path, members: dict[str, bytes], problem: str) -> None:
    zipped(tmp_path / "a.npz", members)
    assert ReferenceFile(tmp_path / "a.npz").problem().startswith(problem)


def test_no_archive(tmp_path: Path) -> None:
    file = ReferenceFile(tmp_path / "a.npz")
    assert file.problem() == "no such file"
    (tmp_path / "a.npz").write_bytes(IMAGES)
    assert file.problem() == "is damaged or not an .npz file (File is not a zip file)"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_sound(tmp_path: Path, method: int) -> None:
    zipped(tmp_path / "a.npz", {"arr_0.npy": IMAGES}, method)
    file = ReferenceFile(tmp_path / "a.npz")
    assert (file.problem(), file.images, file.image_shape, file.kind) == ("", 4, (3, 4), "images")
