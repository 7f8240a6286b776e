"""Written .npz files: read back by NumPy, whole or absent, equal content in equal bytes, in little memory."""

import os
import signal
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from diffussm.data.pixels import open_pixels, write_npz
from diffussm.errors import UserError
from tests.support.image_sets import SHAPE, images, refused, whole


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
    refused(tmp_path / "a.npz", "no array arr_0")


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
