"""Fonts for texts in any script: DejaVu Sans, or an installed font where that lacks a character."""

import os
import sys
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from PIL import ImageFont

from diffussm.errors import printable

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
MOST_FILES = 500  # of installed fonts that are looked at
_SUFFIXES = (".ttf", ".otf", ".ttc")
_NOT_PLAIN = ("bold", "italic", "oblique", "mono", "serif", "thin", "light", "black", "condensed")  # looked at last
_NO_GLYPHS = ("lastresort", "adobeblank")  # fonts that draw the same for every character
_ABSENT = "\uffff"  # a character that no font has


class Drawable(NamedTuple):
    """A text as it can be drawn, and the file of a font that has all of it; None: Pillow's own."""

    text: str
    file: Path | None

    def font(self, size: int) -> Font:
        return _font(self.file, size)


def drawable(text: str) -> Drawable:
    """Return the text, with escapes for what is not printable and for what no font on this machine has.

    The font is DejaVu Sans if it has all of the text, else an installed one that does; if none does, DejaVu Sans with
    escapes for what it lacks.
    """
    text, own = printable(text), dejavu_sans()
    if absent := [c for c in dict.fromkeys(text) if not _has(own, c)]:
        text = "".join(_escaped(c) if c in absent and not installed_with(c) else c for c in text)
        for file in dict.fromkeys(filter(None, map(installed_with, absent))):
            if all(_has(file, c) for c in text):
                return Drawable(text, file)
    return Drawable("".join(c if _has(own, c) else _escaped(c) for c in text), own)


@cache
def dejavu_sans() -> Path | None:
    """Return the file of DejaVu Sans, which Matplotlib brings; None without Matplotlib."""
    matplotlib = find_spec("matplotlib")  # not imported, which takes long
    if matplotlib is None or matplotlib.origin is None:
        return None
    file = Path(matplotlib.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf"
    return file if file.is_file() else None


@lru_cache(maxsize=32)
def _font(file: Path | None, size: int) -> Font:
    return ImageFont.truetype(file, size) if file else ImageFont.load_default(size)


@lru_cache(maxsize=1 << 14)
def _has(file: Path | None, character: str) -> bool:
    """Return whether the font has the character; False for one that cannot be read."""
    try:
        font = _font(file, 16)
        if not isinstance(font, ImageFont.FreeTypeFont):
            return ord(character) < 256  # Latin-1
        return character == " " or bytes(font.getmask(character)) != bytes(font.getmask(_ABSENT))
    except OSError:
        return False


@lru_cache(maxsize=1 << 14)
def installed_with(character: str) -> Path | None:
    """Return the file of an installed font that has the character; None if there is none."""
    return next((file for file in _installed() if _has(file, character)), None)


@cache
def _installed() -> list[Path]:
    """Return the files of installed fonts, plain ones first."""
    found = {file for folder in _folders() for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES}
    usable = (file for file in found if not file.name.lower().startswith(_NO_GLYPHS))
    return sorted(usable, key=lambda file: (any(word in file.name.lower() for word in _NOT_PLAIN), file))[:MOST_FILES]


def _folders() -> Iterator[Path]:
    """Yield the folders in which systems keep fonts."""
    home = Path.home()
    if sys.platform == "win32":
        yield Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts"
        yield home / "AppData/Local/Microsoft/Windows/Fonts"
    elif sys.platform == "darwin":
        yield from (Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts")
    else:
        yield from (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), home / ".fonts")
        yield Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share") / "fonts"


def _escaped(character: str) -> str:
    return ascii(character)[1:-1]
