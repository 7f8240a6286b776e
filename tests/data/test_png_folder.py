"""Folders of PNG files: their order, colours, and every kind of damage."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from diffussm.data.pixels import (
    ArrayPixels,
    FolderPixels,
    open_pixels,
)
from diffussm.errors import UserError
from tests.support.image_sets import SHAPE, images, refused, whole


def save_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """(C, H, W), C 1, 3 or 4."""
    Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(path)


@pytest.mark.parametrize("channels", [1, 3])
def test_folder_in_the_order_of_numbers(tmp_path: Path, channels: int) -> None:
    pixels = images(12, (channels, 5, 4))
    for i in np.random.default_rng(0).permutation(12):
        save_png(tmp_path / f"sample{i}.{'PNG' if i == 3 else 'png'}", pixels[i])
    (tmp_path / "notes.txt").write_text("of these")
    (tmp_path / "._sample0.png").write_bytes(b"a file system's own")
    (tmp_path / "more").mkdir()
    found = open_pixels(tmp_path)
    assert isinstance(found, FolderPixels)
    assert (found.count, found.shape) == (12, (channels, 5, 4))
    for size, start, stop in [(1, 0, None), (5, 0, None), (5, 3, 11), (99, 2, None), (4, 6, 6)]:
        batches = list(found.batches(size, start, stop))
        assert all(len(batch) == size for batch in batches[:-1])
        np.testing.assert_array_equal(np.concatenate([pixels[:0], *batches]), pixels[start:stop])
    assert found.sha256 == ArrayPixels(pixels).sha256


def test_natural_order(tmp_path: Path) -> None:
    names = ["1.png", "01.png", "2.png", "10.png", "a2b10.png", "a2b9.png", "a10.png", "b.png", "²1.png"]
    for name in names:
        save_png(tmp_path / name, images(1)[0])
    order = [file.name for file in FolderPixels(tmp_path).files]
    assert order == ["01.png", "1.png", "2.png", "10.png", "a2b9.png", "a2b10.png", "a10.png", "b.png", "²1.png"]


def test_palettes_and_opaque_alpha(tmp_path: Path) -> None:
    colours = (images(1)[0] // 128 * 255).transpose(1, 2, 0)
    grey = np.ascontiguousarray(colours[..., 0])
    opaque = np.full_like(grey, 255)
    made = {
        "palette": (Image.fromarray(colours).quantize(8), colours),
        "rgba": (Image.fromarray(np.dstack([colours, opaque])), colours),
        "bits": (Image.fromarray(grey).convert("1"), grey[..., None]),
        "la": (Image.merge("LA", [Image.fromarray(grey), Image.fromarray(opaque)]), grey[..., None]),
    }
    for name, (image, expected) in made.items():
        (tmp_path / name).mkdir()
        image.save(tmp_path / name / "a.png")
        np.testing.assert_array_equal(whole(FolderPixels(tmp_path / name))[0], expected.transpose(2, 0, 1))


def test_unused_transparent_colour_is_opaque(tmp_path: Path) -> None:
    image = Image.fromarray(np.full((4, 4), 9, np.uint8))
    image.save(tmp_path / "a.png", transparency=8)
    assert (whole(FolderPixels(tmp_path)) == 9).all()
    image.save(tmp_path / "a.png", transparency=9)
    refused(tmp_path, "a.png", "transparent pixels")


@pytest.mark.parametrize("channels", [2, 4])
def test_alpha(tmp_path: Path, channels: int) -> None:
    pixels = np.full((5, 4, channels), 255, np.uint8)
    pixels[2, 2, -1] = 254
    Image.fromarray(pixels).save(tmp_path / "a.png")
    refused(tmp_path, "a.png", "transparent pixels")


def test_16_bits(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 3000, np.uint16)).save(tmp_path / "a.png")
    refused(tmp_path, "a.png", "16 bits")
    (tmp_path / "a.png").write_bytes(colour_png(16))
    refused(tmp_path, "a.png", "16 bits")
    (tmp_path / "a.png").write_bytes(colour_png(8))
    assert whole(open_pixels(tmp_path)).shape == (1, 3, 4, 4)


def colour_png(depth: int) -> bytes:
    """Black, 4 x 4, RGB of `depth` bits, which PIL cannot write at 16."""
    content = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    content.seek(0, os.SEEK_END)
    PngImagePlugin.putchunk(content, b"IHDR", struct.pack(">IIBBBBB", 4, 4, depth, 2, 0, 0, 0))
    PngImagePlugin.putchunk(content, b"IDAT", zlib.compress(bytes(4 * (1 + 4 * 3 * depth // 8))))
    PngImagePlugin.putchunk(content, b"IEND", b"")
    return content.getvalue()


def test_folders_without(tmp_path: Path) -> None:
    refused(tmp_path, "no PNG files")
    with pytest.raises(UserError, match="no such folder"):
        FolderPixels(tmp_path / "absent")
    (tmp_path / "a.JPEG").touch()
    refused(tmp_path, "JPEG", "never pass through JPEG")
    save_png(tmp_path / "a.png", images(1)[0])
    refused(tmp_path, "never pass through JPEG")


def test_what_is_skipped_is_counted(tmp_path: Path) -> None:
    save_png(tmp_path / "a.PNG", images(1)[0])
    for name in (".b.png", "c.WEBP", "d.webp", "notes"):
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "pipe.png")
    found = FolderPixels(tmp_path)
    assert [file.name for file in found.files] == ["a.PNG"]
    assert str(found.listing) == (
        "1 image taken; left out: 1 hidden, 1 no regular files, 3 with other suffixes (.webp, none)"
    )


def test_sizes_differ(tmp_path: Path) -> None:
    for other in (images(1, (3, 4, 5))[0], images(1, (1, 5, 4))[0]):
        for name, image in (("1.png", images(1)[0]), ("2.png", images(1)[0]), ("10.png", other)):
            save_png(tmp_path / name, image)
        refused(tmp_path, "10.png", f"has shape {other.shape}, but 1.png has {SHAPE}")


def test_png_damaged_anywhere(tmp_path: Path) -> None:
    save_png(tmp_path / "1.png", images(1)[0])
    save_png(tmp_path / "2.png", images(1)[0])
    content = (tmp_path / "2.png").read_bytes()
    for length in range(len(content)):
        (tmp_path / "2.png").write_bytes(content[:length])
        refused(tmp_path, "2.png: ")
    for place in range(len(content)):
        (tmp_path / "2.png").write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        refused(tmp_path, "2.png: ")
    (tmp_path / "2.png").unlink()
    (tmp_path / "2.png").symlink_to("nowhere")
    refused(tmp_path, "2.png: No such file")
