"""Text in pictures, in any script, in lines of a width."""

import math

from diffussm.host.fonts import Drawable, drawable

LETTERS = 11  # size of the letters in pixels
ELLIPSIS = "..."


def length(text: str) -> int:
    """Return the width of the text in pixels, rounded up."""
    return _length(drawable(text))


def fitted(text: str, width: int) -> Drawable:
    """Return the text as it can be drawn in one line of `width` pixels: cut if need be."""
    whole = drawable(text)
    if _length(whole) <= width:
        return whole
    for end in range(len(whole.text) - 1, 0, -1):
        cut = whole._replace(text=whole.text[:end] + ELLIPSIS)
        if _length(cut) <= width:
            return cut
    return whole._replace(text="")


def wrapped(text: str, width: int) -> list[Drawable]:
    """Return the text in lines of at most `width` pixels; a single word that is wider is cut."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if length(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return [fitted(line, width) for line in lines if line]


def _length(text: Drawable) -> int:
    return math.ceil(text.font(LETTERS).getlength(text.text))
