"""Text in pictures, in any script."""

import math
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@cache
def font(size: int) -> Font:
    """Return DejaVu Sans, which Matplotlib brings, or Pillow's font. A character that it lacks is drawn as a box."""
    matplotlib = find_spec("matplotlib")  # not imported, which takes long
    if matplotlib and matplotlib.origin:
        file = Path(matplotlib.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf"
        if file.is_file():
            return ImageFont.truetype(file, size)
    return ImageFont.load_default(size)


def fitted(text: str, used: Font, width: int) -> str:
    """Return the text as it can be drawn in one line of `width` pixels: cut, and without what cannot be printed."""
    text = _drawable(text, used)
    if used.getlength(text) <= width:
        return text
    while text and used.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..." if text else ""


def length(text: str, used: Font) -> int:
    """Return the width of the text in pixels, rounded up."""
    return math.ceil(used.getlength(_drawable(text, used)))


def wrapped(text: str, used: Font, width: int) -> list[str]:
    """Return the text in lines of at most `width` pixels, without what cannot be printed; a single word that is wider
    is cut."""
    lines = [""]
    for word in _drawable(text, used).split():
        longer = f"{lines[-1]} {word}".strip()
        if used.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(fitted(word, used, width))
    return [line for line in lines if line]


def _drawable(text: str, used: Font) -> str:
    text = "".join(c if c.isprintable() else "?" for c in text)
    if isinstance(used, ImageFont.FreeTypeFont):
        return text
    return text.encode("latin-1", "replace").decode("latin-1")
