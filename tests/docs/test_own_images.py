"""docs/own_images.md, word by word: from a folder of images to figures."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import own_images, tiny

SETTINGS = {key: value for key, value in tiny.SETTINGS.items() if key not in ("model.hourglass", "evaluation.metrics")}


def shortened(command: str) -> str:
    """Return the command with tiny models and few steps."""
    if "extractor train" in command:
        return f"{command} --epochs 2"
    if "launch.py" in command:
        return shlex.join([*shlex.split(command), *(f"--set={key}={value}" for key, value in SETTINGS.items())])
    return command


def follow(folder: Path, change: Callable[[str], str]) -> dict[str, str]:
    """Give the page's commands, changed, in the folder; return what each prints."""
    own_images.write_folder(folder)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "DIFFUSSM_CACHE": str(folder / "cache"),
    }
    printed = {}
    for command in own_images.commands():
        given = f"{change(command)} --out out" if "make_figures" in command else change(command)
        done = subprocess.run(["/bin/bash", "-c", given], cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{given}\n{done.stdout}{done.stderr}"
        printed[command] = done.stdout + done.stderr
    return printed


def check(folder: Path, printed: dict[str, str]) -> None:
    (prepared,) = [text for command, text in printed.items() if "data prepare" in command]
    assert "240 images of 3 x 16 x 16, transform centre-crop 16, 2 classes: flower, temple" in prepared
    results = (folder / "out/hourglass_vs_patch/mine/results.md").read_text()
    for arm in ("M = 2, P = 1", "M = 1, P = 2", "M = 1, P = 1"):
        assert f"| {arm} | 1 done |" in results
    assert "mine-cnn" in results
    assert list(folder.glob("runs/*m2p1*/sheets/*.png"))


def test_every_command_works(tmp_path: Path) -> None:
    check(tmp_path, follow(tmp_path, shortened))


@pytest.mark.slow
def test_the_page_as_it_stands(tmp_path: Path) -> None:
    check(tmp_path, follow(tmp_path, str))
