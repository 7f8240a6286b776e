"""docs/imagenet.md, word by word, on a tiny ImageNet: from its tar to a FID curve."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from diffussm.data.prepared.manifest import read_manifest
from tests.support import forked, imagenet_page, random_inception

SLURM = " --executor slurm --profile mylab.toml"  # left out: the runs are local ones
TINY: dict[str, object] = {
    "size": "S", "model.depth": 1, "model.width": 8, "model.state": 4, "training.batch": 4, "training.steps": 4,
    "training.milestones": [2, 4], "training.precision": "float32", "evaluation.samples": 4, "evaluation.batch": 4,
    "evaluation.sampler_steps": 2, "evaluation.metrics": ["fid"], "evaluation.extractor": "photos-cnn",
}  # fmt: skip


def environment(folder: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "DIFFUSSM_CACHE": str(folder / "cache")}


def adapted(command: str, settings: dict[str, object], size: int, only: str) -> str:
    """Return the command for a machine without SLURM, with these settings and arms, and images of another size."""
    command = command.replace(SLURM, "").replace("--image-size 256", f"--image-size {size}")
    if "launch.py" in command:
        command += f" --only '{only}'"
        command += "".join(f" --set {shlex.quote(f'{key}={value}')}" for key, value in settings.items())
    if "reference build" in command:
        command += f" --extractor {settings['evaluation.extractor']}"
    return f"{command} --out out" if "make_figures" in command else command


def run(command: str, folder: Path, variables: dict[str, str]) -> str:
    """Run a command of the page and return what it prints; `export` changes the variables."""
    if command.startswith("export "):
        name, _, value = command.removeprefix("export ").partition("=")
        variables[name] = value.replace("$PWD", str(folder))
        return ""
    program, *words = shlex.split(command)
    if program in ("diffussm", "python"):
        given = [sys.executable, *(["-m", "diffussm"] if program == "diffussm" else []), *words]
        done = forked.run(given, cwd=folder, env=variables)
    else:
        done = subprocess.run(["/bin/bash", "-c", command], cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def follow(folder: Path, settings: dict[str, object], size: int, only: str) -> str:
    """Run all commands of the page; return what they print."""
    variables = environment(folder)
    commands = [adapted(command, settings, size, only) for command in imagenet_page.commands()]
    return "".join(run(command, folder, variables) for command in commands)


def check(folder: Path, printed: str, per_class: int, size: int, arms: int) -> None:
    manifest = read_manifest(folder / "sets/imagenet256-latents")
    assert (manifest.count, manifest.classes) == (2 * per_class, tuple(imagenet_page.WNIDS.values()))
    assert (manifest.kind, manifest.flips, manifest.channels, manifest.image_size) == (
        "mean-std",
        "paired",
        4,
        size // 8,
    )
    assert (folder / "sets/imagenet256-latents.png").exists()
    assert f"{arms} run{'s' * (arms > 1)}: {arms} new" in printed
    assert f"3 runs: {'' if arms == 3 else f'{3 - arms} pending, '}{arms} done" in printed
    results = (folder / "out/hourglass_vs_patch/paper256/results.md").read_text()
    for arm in ("M = 2, P = 1", "M = 1, P = 2", "M = 1, P = 1")[:arms]:
        assert f"| {arm} | 1 done |" in results
    assert f"against {2 * per_class} images of {Path(imagenet_page.REFERENCE).stem} (SHA-256 " in results
    assert (folder / "out/hourglass_vs_patch/paper256/fid_over_steps.png").stat().st_size > 10_000


def test_every_command_works(tmp_path: Path) -> None:
    imagenet_page.write_start(tmp_path, per_class=12, size=32)
    check(tmp_path, follow(tmp_path, TINY, 32, "M = 2*"), per_class=12, size=32, arms=1)


@pytest.mark.slow
def test_the_page_at_its_own_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """240 images of 256 x 256, all arms, features of Inception with random weights."""
    settings = {
        "size": "S", "model.depth": 2, "model.width": 32, "training.batch": 8, "training.steps": 40,
        "training.milestones": [20, 40], "evaluation.samples": 32, "evaluation.batch": 16,
        "evaluation.sampler_steps": 5, "evaluation.metrics": ["fid", "kid", "precision", "recall"],
        "evaluation.extractor": "tests.support.random_inception:FACTS_64",
    }  # fmt: skip
    monkeypatch.setenv("PYTHONPATH", str(imagenet_page.ROOT))
    monkeypatch.setenv(random_inception.ENVIRONMENT, str(random_inception.write(tmp_path)))
    imagenet_page.write_start(tmp_path, per_class=120, size=256)
    check(tmp_path, follow(tmp_path, settings, 256, "*"), per_class=120, size=256, arms=3)
