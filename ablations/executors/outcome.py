"""How work on a run folder ended, as every executor tells it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Outcome:
    kind: Literal["done", "failed", "stopped"]
    reason: str = ""
