"""docs/own_images.md, word by word: from a folder of images to figures."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import forked, own_images, tiny

SETTINGS = {key: value for key, value in tiny.SETTINGS.items() if key not in ("model.hourglass", "evaluation.metrics")}
PREPARED = "240 images of 3 x 16 x 16, transform centre-crop 16, 2 classes: flower, temple"


def environment(folder: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "DIFFUSSM_CACHE": str(folder / "cache")}


def with_own_reports(command: str) -> str:
    return f"{command} --out out" if "make_figures" in command else command


def shortened(folder: Path, command: str) -> list[str]:
    """Return the words of the command, with tiny models and few steps."""
    program, *words = shlex.split(with_own_reports(command))
    if "extractor train" in command:
        words += ["--epochs", "2"]
    if "launch.py" in command:
        words += [f"--set={key}={value}" for key, value in SETTINGS.items()]
    words = [str(next(folder.glob(word))) if "*" in word else word for word in words]
    return [sys.executable, *(["-m", "diffussm"] if program == "diffussm" else []), *words]


def check_results(folder: Path) -> None:
    results = (folder / "out/hourglass_vs_patch/mine/results.md").read_text()
    for arm in ("M = 2, P = 1", "M = 1, P = 2", "M = 1, P = 1"):
        assert f"| {arm} | 1 done |" in results
    assert "own CNN of mine" in results
    assert list(folder.glob("runs/*m2p1*/sheets/*.png"))


def test_every_command_works(tmp_path: Path) -> None:
    own_images.write_folder(tmp_path)
    printed = ""
    for command in own_images.commands():
        done = forked.run(shortened(tmp_path, command), cwd=tmp_path, env=environment(tmp_path))
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        printed += done.stdout + done.stderr
    assert PREPARED in printed
    assert "240 images of 3 x 16 x 16, transform centre-crop 16, no classes" in printed
    assert printed.count("mine-cnn.safetensors: was trained on data with digest") == 1  # of flat.toml's dry run
    check_results(tmp_path)
    check_samples_of_a_moved_set(tmp_path)


def check_samples_of_a_moved_set(folder: Path) -> None:
    """The names of classes stand beside the run's samples; their nearest images are where --data says."""
    (folder / "sets" / "mine").rename(folder / "moved")
    run = next(folder.glob("runs/mine-*m2p1-s0-*"))
    command = [sys.executable, "-m", "diffussm", "sample", str(run), "--layout", "1x2", "--classes", "temple"]
    done = forked.run(command, cwd=folder, env=environment(folder))
    assert done.returncode == 0, done.stderr
    assert "class-1-step-24" in done.stdout
    done = forked.run([*command, "--nearest"], cwd=folder, env=environment(folder))
    assert done.returncode == 2
    assert "if it was moved, change data.root, give --data DIR" in done.stderr
    done = forked.run([*command, "--nearest", "--data", "moved"], cwd=folder, env=environment(folder))
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_page_as_it_stands(tmp_path: Path) -> None:
    own_images.write_folder(tmp_path)
    for command in map(with_own_reports, own_images.commands()):
        shell = ["/bin/bash", "-c", command]
        done = subprocess.run(shell, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    check_results(tmp_path)
