"""Small arrays of .npz files and their headers: read whole, never unpickled, refused by name when damaged."""

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from diffussm.data.pixels import read_arrays
from diffussm.errors import UserError
from tests.support.bomb import Bomb
from tests.support.image_sets import outcome, refused, zipped

Save = Callable[..., None]


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    marker = tmp_path / "unpickled"
    array = np.empty((1, 2, 2, 3), dtype=object)
    array.fill(Bomb(marker))
    np.savez(tmp_path / "a.npz", array, mu=array, named=np.zeros(2, [("a", object)]))
    refused(tmp_path / "a.npz", "arr_0", "Python objects")
    for name in ("mu", "named"):
        with pytest.raises(UserError, match=f"{name}: holds Python objects"):
            read_arrays(tmp_path / "a.npz", [name])
    assert not marker.exists()
    np.load(tmp_path / "a.npz", allow_pickle=True)["arr_0"]
    assert marker.exists()


def _with_header(header: str, content: bytes = b"\0" * 48) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + content


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x09\x00" + b"\0" * 100,
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 100,  # a header of 4 GB
        _with_header("{"),
        _with_header("((" * 2000),
        _with_header("__import__('os').abort()\n"),
        _with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (1, 4, 4, 3)}" + " " * 20_000 + "\n"),
        _with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 4, 4, 3)}\n"),
        _with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, -4, 4, 3)}\n"),
        _with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (10**30, 4, 4, 3)}\n"),
        _with_header(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({10**30}, 4, 4, 3)}}\n"),
        _with_header("{'descr': '|u7', 'fortran_order': False, 'shape': (1, 4, 4, 3)}\n"),
    ],
)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_spoiled_headers(tmp_path: Path, content: bytes, method: int) -> None:
    zipped(tmp_path / "a.npz", {"arr_0.npy": content, "mu.npy": content}, method)
    refused(tmp_path / "a.npz", "arr_0", "damaged")
    with pytest.raises(UserError, match="mu: is damaged"):
        read_arrays(tmp_path / "a.npz", ["mu"])


def test_read_arrays(tmp_path: Path) -> None:
    arrays = {
        "mu": np.arange(3.0),
        "sigma": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "facts": np.array("é"),
        "none": np.zeros((0, 3)),
        "labels": np.arange(4),
        "single": np.array(1.5),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        read = read_arrays(tmp_path / "a.npz", ["absent", *arrays])
        assert read.keys() == arrays.keys()
        for name, array in arrays.items():
            assert read[name].dtype == array.dtype
            np.testing.assert_array_equal(read[name], array)
            read[name].flags.writeable = True
    assert read_arrays(tmp_path / "a.npz", []) == {}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_arrays_not_finite(tmp_path: Path, bad: float) -> None:
    for dtype in (np.float16, np.float32, np.float64, np.complex64):
        np.savez(tmp_path / "a.npz", mu=np.zeros(2), sigma=np.array([0, bad], dtype))
        assert read_arrays(tmp_path / "a.npz", ["mu"]).keys() == {"mu"}
        with pytest.raises(UserError, match=r"a\.npz: sigma: holds numbers that are not finite"):
            read_arrays(tmp_path / "a.npz", ["mu", "sigma"])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_damaged(tmp_path: Path, save: Save) -> None:
    path = tmp_path / "a.npz"
    with pytest.raises(UserError, match="no such file"):
        read_arrays(path, ["mu"])
    mu = np.arange(30.0)
    save(path, mu=mu)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"a\.npz"):
            read_arrays(path, ["mu"])
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        read = outcome(path, lambda: read_arrays(path, ["mu"])) or {}  # none where the name was flipped
        np.testing.assert_array_equal(read.get("mu", mu), mu)


def test_arrays_say_which_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, mu=np.arange(30.0), sigma=np.full(30, 7.25))
    content = bytearray(path.read_bytes())
    content[content.index(np.full(2, 7.25).tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.npz: sigma: is damaged"):
        read_arrays(path, ["mu", "sigma"])
