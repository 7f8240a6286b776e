"""The source of external code is known by digests: the module or package, and what it imports of the user's own."""

import subprocess
import sys
from pathlib import Path

import pytest

import tests.support.tiny as tiny
from diffussm.commands.evaluate import evaluate_run
from diffussm.distributed.group import SINGLE_PROCESS
from diffussm.host import external_code
from diffussm.run.claim import assume_owner_dead
from diffussm.run.runner import TaskRunner
from diffussm.store import records
from diffussm.store.rundir import RunDir

MIXER = """
import torch
from torch import nn

from my_helper import twice


class Mixer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(config.width))

    def forward(self, u):
        return twice(self.scale * u)
"""
HELPER = "import os, json\nimport torch\n\n\ndef twice(u):\n    return torch.cat([u, u], dim=-1)\n"


def digest_in(folder: Path, name: str) -> str:
    """As a new process in that folder finds it."""
    code = f"from diffussm.host.external_code import digests; print(*digests([{name!r}]).values())"
    path = str(Path(external_code.__file__).parents[2])
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, env={"PYTHONPATH": path}, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_module_and_what_it_imports_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "my_mixer.py").write_text(MIXER)
    (tmp_path / "my_helper.py").write_text(HELPER)
    first = digest_in(tmp_path, "my_mixer:Mixer")
    assert len(first) == 12
    (tmp_path / "unused.py").write_text("1")
    assert digest_in(tmp_path, "my_mixer:Mixer") == first
    (tmp_path / "my_helper.py").write_text(f"{HELPER}# edited\n")
    second = digest_in(tmp_path, "my_mixer:Mixer")
    assert second not in ("", first)
    (tmp_path / "my_mixer.py").write_text(f"{MIXER}# edited\n")
    assert digest_in(tmp_path, "my_mixer:Mixer") not in ("", first, second)


def test_all_python_files_of_a_package(tmp_path: Path) -> None:
    (tmp_path / "mine/parts").mkdir(parents=True)
    for name in ("__init__.py", "mixer.py", "parts/layer.py", "notes.txt"):
        (tmp_path / "mine" / name).write_text("")
    first = digest_in(tmp_path, "mine.mixer:Mixer")
    (tmp_path / "mine/notes.txt").write_text("1")
    assert digest_in(tmp_path, "mine.mixer:Mixer") == first
    (tmp_path / "mine/parts/layer.py").write_text("1")
    assert digest_in(tmp_path, "mine.mixer:Mixer") not in ("", first)


def test_what_is_no_external_module_has_none(tmp_path: Path) -> None:
    for name in ("s4d", "digits-cnn", "/some/path:with colon", "no_such_module:Mixer"):
        assert digest_in(tmp_path, name) == ""


def test_an_edit_between_two_attempts_is_recorded_and_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "edited_mixer.py").write_text(MIXER.replace("my_helper", "edited_helper"))
    helper = tmp_path / "edited_helper.py"
    helper.write_text(HELPER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    mixer = {"model__mixer": "edited_mixer:Mixer"}

    def digests_of(run: RunDir) -> set[str]:
        found = [records.read(path) for path in run.path.glob("milestones/*/*/record.json")]
        return {record.provenance["external_code"]["edited_mixer"] for record in found if record}

    run = tiny.run_folder(tmp_path / "runs", **mixer)
    TaskRunner(run.path).run_pending(assume_owner_dead)
    (before,) = digests_of(run)
    assert "its source" not in capfd.readouterr().err
    helper.write_text(f"{HELPER}# edited\n")
    external_code._digest.cache_clear()
    evaluate_run(run, 8, {"sampler_steps": 4}, SINGLE_PROCESS)
    (after,) = digests_of(run) - {before}
    message = f"edited_mixer: its source ({after}) is not that of attempt 1 of the training ({before})\n"
    assert capfd.readouterr().err.count(message) == 1
    tiny.run_folder(tmp_path / "runs", **mixer, training__steps=32, training__milestones=[8, 16, 24, 32])
    TaskRunner(run.path).run_pending(assume_owner_dead)
    assert capfd.readouterr().err.count(message) == 1  # the evaluation is by the code of its training
    assert digests_of(run) == {before, after}
