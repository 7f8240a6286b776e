"""Image sets in pieces: what streams is what NumPy loads, and every spoiled file is told in one line that names it."""

import hashlib
import io
import os
import signal
import struct
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from diffussm.data.pixels import (
    ArrayPixels,
    NpzPixels,
    Pixels,
    open_pixels,
    read_arrays,
    write_npz,
)
from diffussm.errors import UserError
from diffussm.store.hashes import file_sha256

Save = Callable[..., None]
SHAPE = (3, 5, 4)


def images(count: int, shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def in_file(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))


def whole(pixels: Pixels) -> NDArray[np.uint8]:
    return np.concatenate(list(pixels.batches(7)))


def refused(path: Path, *words: str) -> None:
    """Opening and reading `path` is a UserError of one line, which begins with the path and has these words."""
    with pytest.raises(UserError) as told:
        whole(open_pixels(path))
    assert str(told.value).startswith(f"{path}")
    assert "\n" not in str(told.value)
    for word in words:
        assert word in str(told.value)


def outcome(path: Path, read: Callable[[], Any]) -> Any:
    """What `read` gives; None for a UserError that begins with the path."""
    try:
        return read()
    except UserError as error:
        if not str(error).startswith(f"{path}"):
            raise
        return None


def npy(array: NDArray[Any]) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def zipped(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_stream_is_what_numpy_loads(tmp_path: Path, save: Save, data: st.DataObject) -> None:
    count, channels = data.draw(st.integers(1, 9)), data.draw(st.sampled_from([1, 3]))
    pixels = images(count, (channels, 5, 4))
    save(tmp_path / "a.npz", in_file(pixels), labels=np.arange(count))
    start = data.draw(st.integers(0, count))
    stop = data.draw(st.none() | st.integers(start, count))
    size = data.draw(st.integers(1, count + 2))
    found = NpzPixels(tmp_path / "a.npz")
    assert (found.count, found.shape) == (count, (channels, 5, 4))
    batches = list(found.batches(size, start, stop))
    loaded = np.load(tmp_path / "a.npz")["arr_0"].transpose(0, 3, 1, 2)[start:stop]
    assert [len(batch) for batch in batches] == [
        min(size, len(loaded) - first) for first in range(0, len(loaded), size)
    ]
    np.testing.assert_array_equal(np.concatenate([loaded[:0], *batches]), loaded)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_batches_larger_than_a_block(tmp_path: Path, save: Save) -> None:
    pixels = images(5, (3, 512, 512))  # 786,432 bytes each: blocks end inside images
    save(tmp_path / "a.npz", in_file(pixels))
    for start in (0, 2):
        read = np.concatenate(list(NpzPixels(tmp_path / "a.npz").batches(2, start)))
        np.testing.assert_array_equal(read, pixels[start:])


def test_a_zip_behind_other_bytes(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", in_file(images(4)))
    moved = tmp_path / "b.npz"
    moved.write_bytes(b"#!/bin/sh\n" + (tmp_path / "a.npz").read_bytes())
    np.testing.assert_array_equal(np.concatenate(list(NpzPixels(moved).batches(2, 1))), images(4)[1:])


@pytest.mark.parametrize(("size", "start", "stop"), [(0, 0, None), (1, -1, None), (1, 3, 2), (1, 0, 5), (1, 5, None)])
def test_no_such_images(tmp_path: Path, size: int, start: int, stop: int | None) -> None:
    np.savez(tmp_path / "a.npz", in_file(images(4)))
    for pixels in (ArrayPixels(images(4)), NpzPixels(tmp_path / "a.npz")):
        with pytest.raises(ValueError, match="there are 4 images"):
            list(pixels.batches(size, start, stop))


def test_absent(tmp_path: Path) -> None:
    refused(tmp_path / "a.npz", "no such file")
    with pytest.raises(UserError, match="no such file"):
        file_sha256(tmp_path / "a.npz")


def test_no_zip(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for content in (b"", b"not a zip", npy(in_file(images(4)))):
        path.write_bytes(content)
        refused(path, "damaged or no .npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_truncated_anywhere(tmp_path: Path, save: Save) -> None:
    path = tmp_path / "a.npz"
    save(path, in_file(images(4)), more=np.arange(3))
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        refused(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_any_flipped_byte_is_told_or_changes_nothing(tmp_path: Path, save: Save) -> None:
    path = tmp_path / "a.npz"
    save(path, in_file(images(4)))
    content = path.read_bytes()
    told = 0
    for place in range(len(content)):
        for flip in (0x01, 0x80, 0xFF):
            path.write_bytes(content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :])
            read = outcome(path, lambda: whole(open_pixels(path)))
            told += read is None
            np.testing.assert_array_equal(images(4) if read is None else read, images(4))
    assert told > 3 * images(4).size * 0.9


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_crc(tmp_path: Path, save: Save) -> None:
    path = tmp_path / "a.npz"
    save(path, in_file(images(4)))
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        crc = struct.pack("<I", archive.getinfo("arr_0.npy").CRC)
    place = content.rindex(crc)  # in the central directory
    content[place] ^= 1
    path.write_bytes(content)
    refused(path, "CRC")


def test_changed_since_it_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for start in (0, 3):
        np.savez(path, in_file(images(4)))
        pixels = NpzPixels(path)
        content = path.read_bytes()
        path.write_bytes(content[:300] + content[-150:])
        with pytest.raises(UserError, match=r"a\.npz: has been replaced or changed"):
            list(pixels.batches(1, start))
        with pytest.raises(UserError, match=r"a\.npz: has been replaced or changed"):
            _ = pixels.sha256


def test_without_arr_0(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", mu=np.zeros(3), sigma=np.eye(3))
    refused(tmp_path / "a.npz", "no arr_0", "holds mu, sigma")
    np.savez(tmp_path / "a.npz")
    refused(tmp_path / "a.npz", "no arr_0", "holds nothing")
    np.savez(tmp_path / "a.npz", **{f"a{i}": np.zeros(1) for i in range(9)})
    refused(tmp_path / "a.npz", "a7, ...")


class Bomb:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


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


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), ["float32", "uint8", "0 .. 1 must be scaled"]),
        (np.zeros((2, 4, 4, 3), np.int64), ["int64", "uint8"]),
        (np.zeros((2, 4, 4, 3), bool), ["bool", "uint8"]),
        (np.zeros((4, 4, 3), np.uint8), ["shape (4, 4, 3)", "(N, H, W, C)"]),
        (np.zeros((2, 3, 4, 4), np.uint8), ["shape (2, 3, 4, 4)", "(N, H, W, C)"]),
        (np.zeros((2, 4, 4, 3), np.uint8, order="F"), ["Fortran"]),
        (np.zeros((0, 4, 4, 3), np.uint8), ["no images"]),
        (np.zeros((2, 0, 4, 3), np.uint8), ["no images"]),
    ],
    ids=lambda value: f"{value.dtype}-{value.shape}" if isinstance(value, np.ndarray) else "",
)
def test_other_arrays(tmp_path: Path, array: NDArray[Any], words: list[str]) -> None:
    np.savez(tmp_path / "a.npz", array)
    refused(tmp_path / "a.npz", "arr_0", *words)


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


def test_other_compression(tmp_path: Path) -> None:
    zipped(tmp_path / "a.npz", {"arr_0.npy": npy(in_file(images(4)))}, zipfile.ZIP_LZMA)
    refused(tmp_path / "a.npz", "allowed: stored, deflated")


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.npz"
    sigma = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    batches = (images(10)[first : first + 3] for first in range(0, 10, 3))
    write_npz(path, SHAPE, 10, batches, arr_1=np.arange(10), sigma=sigma, facts='{"é": 1}', shape=np.float32(3))
    with np.load(path) as loaded:
        assert loaded.files == ["arr_0", "arr_1", "facts", "shape", "sigma"]
        np.testing.assert_array_equal(loaded["arr_0"].transpose(0, 3, 1, 2), images(10))
        np.testing.assert_array_equal(loaded["arr_1"], np.arange(10))
        np.testing.assert_array_equal(loaded["sigma"], sigma)
        assert str(loaded["facts"]) == '{"é": 1}'
        assert loaded["shape"] == 3
        assert loaded["shape"].dtype == np.float32
    with zipfile.ZipFile(path) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    np.testing.assert_array_equal(whole(open_pixels(path)), images(10))
    assert os.listdir(path.parent) == ["a.npz"]


def test_equal_content_is_equal_bytes(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", SHAPE, 4, [images(4)], mu=np.zeros(3), arr_1=np.arange(4))
    os.utime(tmp_path / "a.npz", (0, 0))
    strided = np.repeat(images(4), 2, axis=0)[::2]
    write_npz(tmp_path / "b.npz", SHAPE, 4, [strided[:1], strided[1:]], arr_1=np.arange(8)[::2] // 2, mu=np.zeros(3))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert open_pixels(tmp_path / "a.npz").sha256 == open_pixels(tmp_path / "b.npz").sha256


def test_statistics_only(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", SHAPE, 0, [], mu=np.zeros(3))
    assert np.load(tmp_path / "a.npz").files == ["mu"]
    refused(tmp_path / "a.npz", "no arr_0")


@pytest.mark.parametrize(
    ("count", "batches", "arrays"),
    [
        (5, [images(4)], {}),
        (3, [images(4)], {}),
        (3, [images(2), images(2)], {}),
        (0, [images(1)], {}),
        (4, [], {}),
        (4, [images(4).astype(np.float32)], {}),
        (4, [images(4).transpose(0, 2, 3, 1)], {}),
        (4, [images(4)], {"arr_0": np.zeros(1)}),
        (4, [images(4)], {"mu": np.array([None])}),
    ],
)
def test_what_is_not_written(tmp_path: Path, count: int, batches: list[Any], arrays: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each says something else
        write_npz(tmp_path / "a.npz", SHAPE, count, batches, **arrays)
    assert os.listdir(tmp_path) == []


def test_failing_source_leaves_the_old_file(tmp_path: Path) -> None:
    def failing() -> Any:
        yield images(2)
        raise KeyboardInterrupt

    write_npz(tmp_path / "a.npz", SHAPE, 4, [images(4)])
    with pytest.raises(KeyboardInterrupt):
        write_npz(tmp_path / "a.npz", SHAPE, 4, failing())
    assert os.listdir(tmp_path) == ["a.npz"]
    np.testing.assert_array_equal(whole(open_pixels(tmp_path / "a.npz")), images(4))


def script(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_killed_midway(tmp_path: Path) -> None:
    killed = script(
        """if True:
        import os, signal, sys
        from pathlib import Path
        import numpy as np
        from diffussm.data.pixels import write_npz

        def batches():
            yield np.zeros((50, 3, 64, 64), np.uint8)
            os.kill(os.getpid(), signal.SIGKILL)

        write_npz(Path(sys.argv[1]), (3, 64, 64), 100, batches())
        """,
        tmp_path / "a.npz",
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "a.npz").exists()
    assert all(path.name.startswith(".a.npz.") and path.suffix == ".tmp" for path in tmp_path.iterdir())


def test_concurrent_writers(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    versions = [images(20, seed=seed) for seed in range(4)]
    write_npz(path, SHAPE, 20, [versions[0]])

    def write(version: NDArray[np.uint8]) -> None:
        for _ in range(10):
            write_npz(path, SHAPE, 20, np.split(version, 5))

    writers = [threading.Thread(target=write, args=(version,)) for version in versions]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        try:
            read = whole(open_pixels(path))
        except UserError as error:
            assert "replaced" in str(error)  # noqa: PT017 - or else it was read whole
        else:
            assert any(np.array_equal(read, version) for version in versions)
    assert os.listdir(tmp_path) == ["a.npz"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory(tmp_path: Path) -> None:
    """200 MB are written, read, read deflated from the middle on and hashed in less than 40 MB."""
    done = script(
        """if True:
        import re, sys
        from pathlib import Path
        import numpy as np
        from diffussm.data.pixels import NpzPixels, write_npz
        from diffussm.store.hashes import file_sha256

        def peak():  # not getrusage, which begins with the parent's
            return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

        stored, deflated = Path(sys.argv[1]), Path(sys.argv[2])
        before = peak()
        batch = np.arange(10 * 3 * 256 * 256, dtype=np.uint8).reshape(10, 3, 256, 256)
        write_npz(stored, (3, 256, 256), 1000, (batch for _ in range(100)))
        written = stored.stat().st_size
        for read in NpzPixels(stored).batches(10):
            assert np.array_equal(read, batch)
        for read in NpzPixels(deflated).batches(10, 500):
            assert not read.any()
        file_sha256(stored)
        print(written, peak() - before)
        """,
        tmp_path / "a.npz",
        deflated_zeros(tmp_path / "b.npz", (1000, 256, 256, 3)),
    )
    assert done.returncode == 0, done.stderr
    written, grown = map(int, done.stdout.split())
    assert written > 190e6
    assert grown < 40e6


def deflated_zeros(path: Path, shape: tuple[int, ...]) -> Path:
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("arr_0.npy", "w", force_zip64=True) as member,
    ):
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(member, header)
        for _ in range(shape[0]):
            member.write(bytes(int(np.prod(shape[1:]))))
    return path


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


def test_file_sha256(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    assert file_sha256(path) == hashlib.sha256(b"one").hexdigest()
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert file_sha256(path) == hashlib.sha256(b"one").hexdigest()
    monkeypatch.undo()
    path.write_bytes(b"two")
    os.utime(path, ns=(0, 0))
    assert file_sha256(path) == hashlib.sha256(b"two").hexdigest()


def test_array() -> None:
    pixels = ArrayPixels(images(5))
    np.testing.assert_array_equal(np.concatenate(list(pixels.batches(2, 1, 4))), images(5)[1:4])
    assert pixels.sha256 == hashlib.sha256(images(5).tobytes()).hexdigest()
    for array in (images(5)[0], images(5).astype(np.int16)):
        with pytest.raises(ValueError, match="needed is uint8"):
            ArrayPixels(array)
