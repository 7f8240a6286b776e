"""Redirection of a process's output to a log."""

import os
import sys
from pathlib import Path


def redirect_output(path: Path) -> None:
    """Append what this process and its children print, on stdout and stderr, to that file from now on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    with path.open("ab") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
