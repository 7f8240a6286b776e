"""What a look at a machine or a cluster finds."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Check:
    verdict: Literal["ok", "warning", "fail"]
    what: str
    words: str
