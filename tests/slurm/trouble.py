"""Mixers from outside that go wrong in training as a test wants it."""

from pathlib import Path
from textwrap import indent

MIXER = """\
import os
import time
from pathlib import Path

import torch
from torch import distributed, nn


class Mixer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.linear = nn.Linear(config.width, 2 * config.width)
        self.config, self.step = config, 0

    def forward(self, u):
        if self.training:
            self.step += 1
            self.go_wrong(u)
        return self.linear(u)

    def go_wrong(self, u):
"""


def mixer(folder: Path, trouble: str) -> str:
    """Write to the folder one that does `trouble` at each step that it counts, and say what its name is there."""
    (folder / "trouble.py").write_text(MIXER + indent(trouble, " " * 8) + "\n")
    return "trouble:Mixer"


def until(file: Path, trouble: str) -> str:
    """The trouble, as long as that file is not there."""
    return f"if not Path({str(file)!r}).exists():\n{indent(trouble, '    ')}"
