"""The shipped grid hourglass_vs_patch with tiny runs."""

from pathlib import Path

import tests.support.tiny as tiny

SETTINGS = [
    part for key, value in tiny.SETTINGS.items() if key != "model.hourglass" for part in ("--set", f"{key}={value}")
]


def arguments(runs: Path, *more: str, settings: list[str] = SETTINGS) -> list[str]:
    """What launch.py is given: one seed, the runs' folder, the settings, and more."""
    return ["--grid", "hourglass_vs_patch", "--seeds", "1", "--runs", str(runs), *settings, *more]
