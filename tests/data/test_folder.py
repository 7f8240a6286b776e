"""A folder of photographs: their order, and the transform against what can be said of it without its code."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from diffussm.data.preparing.images import SourceImages
from diffussm.data.preparing.recipe import Options
from diffussm.data.sources.folder import image_files
from diffussm.data.transforms import as_array, centre_cropped, in_channels
from diffussm.errors import UserError


def photographs(folder: Path, size: int) -> SourceImages:
    return SourceImages(folder, Options(image_size=size))


Kernel = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def cropped(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """(H, W, 3) -> (size, size, 3)."""
    return np.asarray(centre_cropped(Image.fromarray(pixels), size))


def waves(height: int, width: int) -> NDArray[np.float64]:
    """A smooth image, (height, width, 3), of three colours that go up and down once or twice."""
    y, x = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
    phases = [np.sin(2 * np.pi * y + x), np.cos(3 * x - 2 * y), np.sin(2 * np.pi * x * y)]
    return 127.5 + 100 * np.stack(phases, axis=-1)


def box(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    return (np.abs(distance) < 0.5).astype(np.float64)


def cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' kernel, a = -1/2."""
    d = np.abs(distance)
    near = 1.5 * d**3 - 2.5 * d**2 + 1
    far = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    return np.where(d < 1, near, np.where(d < 2, far, 0.0))


def resized(pixels: NDArray[np.float64], height: int, width: int, kernel: Kernel) -> NDArray[np.float64]:
    """By weights of pixels' centres, to whole levels, a half to the next; made smaller, the kernel is as much wider."""
    for axis, new in ((0, height), (1, width)):
        old = pixels.shape[axis]
        step = old / new
        centres = (np.arange(new) + 0.5) * step
        weights = kernel((np.arange(old) + 0.5 - centres[:, None]) / max(step, 1.0))
        weights /= weights.sum(axis=1, keepdims=True)
        pixels = np.floor(np.moveaxis(np.tensordot(weights, pixels, (1, axis)), 0, axis) + 0.5)
    return pixels


def reference(pixels: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """The transform in float64."""
    height, width, _ = pixels.shape
    while min(height, width) >= 2 * size:
        height, width = height // 2, width // 2
        pixels = resized(pixels, height, width, box)
    scale = size / min(height, width)
    height, width = round(height * scale), round(width * scale)
    pixels = resized(pixels, height, width, cubic)
    top, left = (height - size) // 2, (width - size) // 2
    return pixels[top : top + size, left : left + size]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 70))
def test_size_and_constants(height: int, width: int, size: int) -> None:
    level = np.array([3, 200, 255], np.uint8)
    image = cropped(np.broadcast_to(level, (height, width, 3)).copy(), size)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    assert (image == level).all()


@pytest.mark.parametrize("size", [1, 8, 33])
def test_identity(size: int) -> None:
    np.testing.assert_array_equal(cropped(noise(size, size), size), noise(size, size))


@pytest.mark.parametrize(("height", "width"), [(8, 13), (8, 14), (21, 8), (8, 15), (15, 8), (8, 100)])
def test_the_centre_of_an_image_of_that_height(height: int, width: int) -> None:
    """Nothing is resized: the crop is exact, one pixel nearer to the top left where it cannot be even."""
    pixels = noise(height, width)
    top, left = (height - 8) // 2, (width - 8) // 2
    np.testing.assert_array_equal(cropped(pixels, 8), pixels[top : top + 8, left : left + 8])


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 24), (28, 16)])
def test_half_is_the_mean_of_blocks(height: int, width: int) -> None:
    blocks = noise(height, width).reshape(height // 2, 2, width // 2, 2, 3).mean((1, 3))
    top, left = (height // 2 - 8) // 2, (width // 2 - 8) // 2
    assert np.abs(cropped(noise(height, width), 8) - blocks[top : top + 8, left : left + 8]).max() <= 1


def test_halved_while_twice_the_size_or_more() -> None:
    """31 pixels are not halved and 32 are: of a checkerboard the box filter leaves grey alone."""
    board = np.indices((32, 32)).sum(0)[..., None].repeat(3, 2) % 2 * 255
    assert np.ptp(cropped(board.astype(np.uint8), 16)) == 0
    assert np.ptp(cropped(board[:31, :31].astype(np.uint8), 16)) > 0


def tied(height: int, width: int, size: int) -> bool:
    """Whether a pixel lies in the middle between two boxes: which one has it is a matter of PIL's last bit."""
    if min(height, width) < 2 * size:
        return False
    return height % 4 == 1 or width % 4 == 1 or tied(height // 2, width // 2, size)


@settings(max_examples=60, deadline=None)
@given(st.integers(8, 150), st.integers(8, 150), st.integers(8, 40), st.booleans())
def test_against_float64(height: int, width: int, size: int, smooth: bool) -> None:
    """Levels 27 .. 228, which the cubic does not leave 0 .. 255 from."""
    assume(not tied(height, width, size))
    pixels = np.rint(waves(height, width) if smooth else 64 + noise(height, width) / 2).astype(np.uint8)
    assert np.abs(cropped(pixels, size) - reference(pixels.astype(np.float64), size)).max() <= 2


def test_colours() -> None:
    """Grey and palettes become RGB."""
    grey = noise(8, 8)[..., 0]
    np.testing.assert_array_equal(as_array(in_channels(Image.fromarray(grey), 3)), np.stack([grey] * 3))
    palette = Image.fromarray(noise(8, 8)).quantize(16)
    np.testing.assert_array_equal(
        as_array(in_channels(palette, 3)), np.asarray(palette.convert("RGB")).transpose(2, 0, 1)
    )


NAMES = ["b/2.png", "a/10.png", "a/2.PNG", "B/x/y/deep.Bmp", "top.WebP", "a.png", "a b/ü.png"]


def photo_folder(root: Path) -> dict[str, NDArray[np.uint8]]:
    """Photographs without loss, by relative path, and other files between them."""
    made = {}
    for seed, name in enumerate(NAMES):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        made[name] = noise(9 + seed, 12, seed)
        Image.fromarray(made[name]).save(path, lossless=True)
    (root / "a" / "labels.txt").touch()
    (root / "a" / "._2.png").write_bytes(b"a file system's own")
    (root / "empty").mkdir()
    return made


def test_folder(tmp_path: Path) -> None:
    made = photo_folder(tmp_path)
    found = photographs(tmp_path, 8)
    assert [entry.name for entry in found.entries] == sorted(NAMES)
    assert (found.count, found.shape, found.transform) == (7, (3, 8, 8), "centre-crop 8")
    expected = np.stack([cropped(made[name], 8).transpose(2, 0, 1) for name in sorted(NAMES)])
    for size, start, stop in [(1, 0, None), (3, 0, None), (3, 2, 6), (99, 1, None), (2, 7, 7)]:
        batches = list(found.batches(size, start, stop))
        assert all(len(batch) == size for batch in batches[:-1])
        np.testing.assert_array_equal(np.concatenate([expected[:0], *batches]), expected[start:stop])
    assert found.sha256 == hashlib.sha256(expected.tobytes()).hexdigest()
    chosen = found.subset([5, 0, 3])
    assert (chosen.count, chosen.shape, chosen.transform) == (3, (3, 8, 8), "centre-crop 8")
    np.testing.assert_array_equal(np.concatenate(list(chosen.batches(2))), expected[[0, 3, 5]])
    assert chosen.sha256 == hashlib.sha256(expected[[0, 3, 5]].tobytes()).hexdigest()
    assert [entry.name for entry in chosen.subset([2]).entries] == [sorted(NAMES)[5]]
    with pytest.raises(ValueError, match="there are 7 images"):
        list(found.batches(1, 8))
    for indices in ([], [7], [-1], [1, 1]):
        with pytest.raises(ValueError, match=r"different ones of 0 \.\. 6"):
            found.subset(indices)


def test_what_is_skipped_is_counted(tmp_path: Path) -> None:
    """Hidden folders at any depth, hidden files, other suffixes and what is no file; the case of suffixes is alike."""
    made = photo_folder(tmp_path)
    picture = (tmp_path / "a.png").read_bytes()
    for name in (".cache/a.png", "a/.thumbnails/x/b.JPG", "a/.thumbnails/x/index.db", ".c.Png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(picture)
    for name in ("x.SVG", "y.svg", "b/z.psd", "LICENSE", ".directory"):
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "pipe.png")
    found = image_files(tmp_path)
    assert found.files == sorted(made)
    assert str(found) == (
        "7 images taken; left out: 2 hidden, 2 in hidden folders, 1 no regular files, "
        "5 with other suffixes (.psd, .svg, .txt, none)"
    )
    (tmp_path / "one").mkdir()
    Image.fromarray(noise(8, 8)).save(tmp_path / "one" / "a.PNG")
    assert str(image_files(tmp_path / "one")) == "1 image taken; left out: nothing"


def test_a_hidden_root_is_read(tmp_path: Path) -> None:
    made = photo_folder(tmp_path / ".hidden")
    assert image_files(tmp_path / ".hidden").files == sorted(made)


def test_jpeg_of_any_name(tmp_path: Path) -> None:
    pixels = np.rint(waves(20, 30)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.JPEG", quality=100, subsampling=0)
    Image.fromarray(pixels).save(tmp_path / "b.jpg", format="PNG")  # ImageNet has one
    Image.fromarray(pixels).convert("CMYK").save(tmp_path / "c.jpg", quality=100)
    a, b, c = np.concatenate(list(photographs(tmp_path, 16).batches(3))).astype(int)
    np.testing.assert_array_equal(b, cropped(pixels, 16).transpose(2, 0, 1))
    assert np.abs(a - b).max() <= 3
    assert np.abs(c - b).max() <= 6


def test_links_are_followed_once_around(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    Image.fromarray(noise(8, 8)).save(tmp_path / "real" / "a.png")
    root = tmp_path / "root"
    root.mkdir()
    (root / "class").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "loop").symlink_to(root)
    (root / "self").symlink_to(root)
    assert image_files(root).files == ["class/a.png"]


def test_no_image_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent: no such file or folder"):
        photographs(tmp_path / "absent", 8)
    (tmp_path / "a.txt").touch()
    with pytest.raises(
        UserError, match=r"holds no images .*; 0 images taken; left out: 1 with other suffixes \(.txt\)"
    ):
        photographs(tmp_path, 8)
    with pytest.raises(UserError, match=r"--image-size 0: allowed: 1 \.\. 8192"):
        photographs(tmp_path, 0)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_closed_subfolder(tmp_path: Path) -> None:
    photo_folder(tmp_path)
    (tmp_path / "b").chmod(0)
    try:
        with pytest.raises(PermissionError):
            photographs(tmp_path, 8)
    finally:
        (tmp_path / "b").chmod(0o700)


def test_spoiled_files(tmp_path: Path) -> None:
    photo_folder(tmp_path)
    Image.fromarray(noise(40, 40)).save(tmp_path / "a" / "photo.jpg")
    found = photographs(tmp_path, 8)
    path = tmp_path / "a" / "photo.jpg"
    content = path.read_bytes()
    for spoiled in (b"no image", content[:100], content[: len(content) // 2], content[:-100]):
        path.write_bytes(spoiled)
        with pytest.raises(UserError, match=r"a/photo\.jpg: is damaged or not an image"):
            list(found.batches(2))
    path.unlink()
    with pytest.raises(UserError, match=r"a/photo\.jpg: cannot be read \(No such file"):
        list(found.batches(2))
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(path, format="PNG")
    with pytest.raises(UserError, match=r"a/photo\.jpg: has more than 8 bits a channel"):
        list(found.batches(2))
