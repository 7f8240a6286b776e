"""Every kind of image file has one treatment."""

import io
import struct
import warnings
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from PIL.PngImagePlugin import PngInfo

from diffussm.data.sources.base import Broken
from diffussm.data.sources.image_file import decode
from tests.support.sources import encoded, noise

RGB = Image.fromarray(noise(20, 30))


def rotated() -> bytes:
    exif = Image.Exif()
    exif[274] = 6
    return encoded(RGB, "PNG", exif=exif)


def several(kind: str) -> bytes:
    return encoded(RGB, kind, save_all=True, append_images=[Image.fromarray(noise(20, 30, 1))])


def transparent_palette() -> bytes:
    return encoded(RGB.convert("P"), transparency=bytes(range(256)))


TREATED: dict[str, tuple[Callable[[], bytes], tuple[str, ...]]] = {
    "PNG": (lambda: encoded(RGB), ()),
    "WebP": (lambda: encoded(RGB, "WEBP", lossless=True), ()),
    "BMP": (lambda: encoded(RGB, "BMP"), ()),
    "TIFF": (lambda: encoded(RGB, "TIFF"), ()),
    "PPM": (lambda: encoded(RGB, "PPM"), ()),
    "grey": (lambda: encoded(RGB.convert("L")), ()),
    "bilevel": (lambda: encoded(RGB.convert("1")), ()),
    "palette": (lambda: encoded(RGB.convert("P")), ("palette converted",)),
    "transparent palette": (transparent_palette, ("palette converted", "alpha dropped")),
    "alpha": (lambda: encoded(RGB.convert("RGBA")), ("alpha dropped",)),
    "grey and alpha": (lambda: encoded(RGB.convert("LA")), ("alpha dropped",)),
    "CMYK": (lambda: encoded(RGB.convert("CMYK"), "TIFF"), ("CMYK converted",)),
    "EXIF": (rotated, ("EXIF orientation ignored",)),
    "animated PNG": (lambda: several("PNG"), ("first of several frames taken",)),
    "pages of a TIFF": (lambda: several("TIFF"), ("first of several frames taken",)),
}


@pytest.mark.parametrize("kind", TREATED)
def test_is_what_pillow_makes_of_it(kind: str) -> None:
    make, notes = TREATED[kind]
    content = make()
    found = decode(content)
    assert found.notes == notes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = Image.open(io.BytesIO(content)).convert("RGB")
    assert np.array_equal(np.asarray(found.image.convert("RGB")), np.asarray(expected))
    if kind in ("PNG", "WebP", "BMP", "TIFF", "PPM", "alpha", "EXIF", "animated PNG", "pages of a TIFF"):
        assert np.array_equal(np.asarray(expected), np.asarray(RGB))  # (H, W) as stored, first frame


def test_the_first_frame_of_a_gif_and_of_a_phone_is_taken() -> None:
    for kind in ("GIF", "MPO"):
        found = decode(several(kind))
        assert "first of several frames taken" in found.notes
        difference = np.asarray(found.image.convert("RGB")).astype(int) - np.asarray(RGB)
        other = np.asarray(found.image.convert("RGB")).astype(int) - noise(20, 30, 1)
        assert np.abs(difference).mean() < np.abs(other).mean() / 1.5


def test_a_gif_that_is_damaged_behind_its_first_frame() -> None:
    content = several("GIF")
    found = decode(content[:-600])
    assert np.array_equal(np.asarray(found.image.convert("RGB")), np.asarray(decode(content).image.convert("RGB")))


def sixteen_bits(kind: str) -> bytes:
    return encoded(Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000), kind)


def png_of_16_bit_colours() -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(2 * (1 + 12)))) + chunk(b"IEND", b"")


def bmp_of_width(width: int) -> bytes:
    content = encoded(RGB, "BMP")
    return content[:18] + struct.pack("<i", width) + content[22:]


BROKEN: dict[str, tuple[Callable[[], bytes], str]] = {
    "no bytes": (lambda: b"", "is empty"),
    "no image": (lambda: b"<html>not found</html>", "damaged or not an image"),
    "cut PNG": (lambda: encoded(RGB)[:-30], "damaged or not an image"),
    "PNG without its end": (lambda: encoded(RGB)[:-12], "damaged or not an image"),
    "cut JPEG": (lambda: encoded(RGB, "JPEG")[:-100], "damaged or not an image"),
    "cut WebP": (lambda: encoded(RGB, "WEBP")[:-100], "damaged or not an image"),
    "cut TIFF": (lambda: encoded(RGB, "TIFF")[:-100], "damaged or not an image"),
    "cut BMP": (lambda: encoded(RGB, "BMP")[:-100], "damaged or not an image"),
    "cut PPM": (lambda: encoded(RGB, "PPM")[:-100], "damaged or not an image"),
    "flipped bit in a PNG": (lambda: encoded(RGB)[:600] + b"?" + encoded(RGB)[601:], "damaged or not an image"),
    "16 bits in a PNG": (lambda: sixteen_bits("PNG"), "more than 8 bits a channel"),
    "16 bits in a TIFF": (lambda: sixteen_bits("TIFF"), "more than 8 bits a channel"),
    "16 bits in a PGM": (lambda: b"P5 2 2 65535\n" + bytes(8), "more than 8 bits a channel"),
    "16 bits in a PPM": (lambda: b"P6 2 2 65535\n" + bytes(24), "more than 8 bits a channel"),
    "16-bit colours in a PNG": (png_of_16_bit_colours, "more than 8 bits a channel"),
    "floating point": (lambda: encoded(RGB.convert("F"), "TIFF"), "more than 8 bits a channel"),
    "LAB": (
        lambda: encoded(RGB.convert("LAB"), "TIFF"),
        r"colours of a kind that is not .*TIFF of mode LAB",
    ),
    "a BMP of negative width": (lambda: bmp_of_width(-5), "damaged or not an image"),
    "a format that is not read": (lambda: encoded(RGB, "ICO"), "damaged or not an image"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_is_broken(kind: str) -> None:
    make, reason = BROKEN[kind]
    with pytest.raises(Broken, match=reason):
        decode(make())


@pytest.mark.parametrize("kind", ["profile", "text"])
def test_a_png_may_hold_much_beside_its_pixels(kind: str) -> None:
    """More than Pillow takes by itself, whose limits are in force again afterwards."""
    info = PngInfo()
    if kind == "text":
        info.add_text("comment", "x" * (3 << 20), zip=True)
    content = encoded(RGB, pnginfo=info, icc_profile=noise(1, 2 << 20).tobytes() if kind == "profile" else None)
    before = PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY
    assert np.array_equal(np.asarray(decode(content).image), np.asarray(RGB))
    assert before == (PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY)
    with pytest.raises(ValueError, match="Decompressed data too large"):
        Image.open(io.BytesIO(content)).load()


def test_large_images_are_taken_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's own limit, beyond which it takes no image at all, is suspended, and in force again afterwards."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Broken, match=r"too many pixels \(30 x 20; allowed: 599\)"):
        decode(encoded(RGB), 599)
    assert decode(encoded(RGB), 600).image.size == (30, 20)
    assert decode(several("GIF"), 600).image.size == (30, 20)
    assert Image.MAX_IMAGE_PIXELS == 100
