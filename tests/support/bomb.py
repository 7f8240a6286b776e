"""An object that shows whether it was unpickled."""

from pathlib import Path
from typing import Any


class Bomb:
    """Unpickling it makes an empty file at `marker`."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)
