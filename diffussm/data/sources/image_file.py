"""Decoding of image files of any kind, with one treatment of each, and the counts of what was done."""

import contextlib
import io
import threading
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

from PIL import Image, PngImagePlugin

from diffussm.data.sources.base import Broken

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF")  # by content, whatever the suffix says
MAX_PIXELS = 10**9
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "La", "CMYK", "YCbCr")  # 8 bits a channel or fewer
_DEEP_MODES = ("I", "F")  # what they begin with
_MOST_SIDE = 2**31 - 1  # a BMP of negative width seems to have more
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_BITS_PER_SAMPLE, _ORIENTATION = 258, 274  # tags of TIFF and EXIF

DAMAGED, EMPTY, DEEP, HUGE, COLOURS = (
    "is damaged or not an image",
    "is empty",
    "has more than 8 bits a channel",
    "has too many pixels",
    "has colours of a kind that is not read",
)


class Decoded(NamedTuple):
    image: Image.Image  # loaded
    notes: tuple[str, ...]  # what is special about the file


def decode(content: bytes, max_pixels: int = MAX_PIXELS) -> Decoded:
    """Return the image in a file's content, the first one of several; raise Broken if it cannot be used."""
    if not content:
        raise Broken(EMPTY)
    with _without_limits_of_pillow():
        try:
            image = Image.open(io.BytesIO(content), formats=_formats())
            if image.width * image.height <= max_pixels:
                if image.format == "PNG":
                    image.verify()  # checks the CRCs, which decoding does not
                    content.index(_PNG_END)
                    image = Image.open(io.BytesIO(content), formats=["PNG"])
                deep = _is_deep(image, content)
                image, animated = _looked_for_frames(image, content)
                image.load()
                notes = _notes(image, animated)
                image.info.pop("transparency", None)  # its colour, which the conversion to RGB would warn of
        except MemoryError:
            raise Broken(HUGE, "they do not fit into memory") from None
        except Exception:  # Pillow may raise any exception on a damaged file
            raise Broken(DAMAGED) from None
    if max(image.size) > _MOST_SIDE:
        raise Broken(DAMAGED)
    if image.width * image.height > max_pixels:
        raise Broken(HUGE, f"{image.width} x {image.height}; allowed: {max_pixels:,}")
    if deep or image.mode not in _MODES:
        is_deep = deep or image.mode.startswith(_DEEP_MODES)
        raise Broken(DEEP if is_deep else COLOURS, f"{image.format} of mode {image.mode}")
    return Decoded(image, notes)


def _is_deep(image: Any, content: bytes) -> bool:
    """Return whether Pillow drops bits of the colours without saying so."""
    if image.format == "PNG":
        return content[24] == 16  # in IHDR
    if image.format == "TIFF":
        return max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,))) > 8
    if image.format == "PPM" and image.tile and isinstance(image.tile[0].args, tuple):
        return isinstance(depth := image.tile[0].args[-1], int) and depth > 255
    return False


def _looked_for_frames(image: Any, content: bytes) -> tuple[Any, bool]:
    """Return the image, of which nothing is loaded yet, and whether its file holds others."""
    try:
        return image, bool(getattr(image, "is_animated", False))
    except Exception:  # behind the first frame it is damaged
        return Image.open(io.BytesIO(content), formats=[image.format]), True


def _notes(image: Any, animated: bool) -> tuple[str, ...]:
    notes = ["first of several frames taken"] * animated
    if image.mode in ("CMYK", "YCbCr"):
        notes.append(f"{image.mode} converted")
    if image.mode in ("P", "PA"):
        notes.append("palette converted")
    if image.has_transparency_data:
        notes.append("alpha dropped")
    with contextlib.suppress(Exception):  # damaged beside the pixels
        if image.getexif().get(_ORIENTATION, 1) != 1:
            notes.append("EXIF orientation ignored")
    return tuple(notes)


def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


_lock = threading.Lock()
_users = 0
_LIMITS: tuple[tuple[Any, str, int | None], ...] = (  # module, name and value of each while files are decoded
    (Image, "MAX_IMAGE_PIXELS", None),
    (PngImagePlugin, "MAX_TEXT_CHUNK", 1 << 27),  # bytes of a text or a colour profile once it is expanded
    (PngImagePlugin, "MAX_TEXT_MEMORY", 1 << 29),
)
_former_limits: list[Any] = []
_former_filters = warnings.catch_warnings()


@contextlib.contextmanager
def _without_limits_of_pillow() -> Iterator[None]:
    """Suspend Pillow's own limits of pixels and of what lies beside them, and its warnings about damage there.

    Both hold for the whole process, and several threads may be here at the same time.
    """
    global _users, _former_filters
    with _lock:
        if not _users:
            _former_limits[:] = [getattr(module, name) for module, name, _ in _LIMITS]
            for module, name, value in _LIMITS:
                setattr(module, name, value)
            _former_filters = warnings.catch_warnings()
            _former_filters.__enter__()
            warnings.simplefilter("ignore")
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                for (module, name, _), value in zip(_LIMITS, _former_limits, strict=True):
                    setattr(module, name, value)
                _former_filters.__exit__(None, None, None)
