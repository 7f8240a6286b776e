"""How a piece of work ended, as every executor tells it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Outcome:
    """`superseded`: another attempt has the folder. `can_pass`: the same may well work when it is tried again."""

    kind: Literal["done", "failed", "stopped", "cancelled", "superseded"]
    reason: str = ""
    log: str = ""
    can_pass: bool = False
