"""The result of one check of a machine or a cluster."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Check:
    verdict: Literal["ok", "warning", "fail"]
    what: str
    message: str
