"""`manage.py doctor` names one's own data set, reference and extractor, before and after a launch."""

import shutil
from pathlib import Path

import pytest

from ablations import manage
from ablations.plan.request import GridRequest
from diffussm.commands.reference import build
from tests.support.grid_file import HEADER
from tests.support.own_extractor import prepared_digits

BASE = """
extends = "digits"
[data]
name = "mine"
root = "mine"
[training]
steps = 2
milestones = []
[evaluation]
reference = "mine.npz"
metrics = ["fid"]
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DIFFUSSM_DATA", raising=False)
    prepared_digits(tmp_path / "mine", 30)
    build("mine", tmp_path / "mine.npz", None, "digits-cnn", 30, "", statistics=True)
    Path("mine.toml").write_text(BASE)
    Path("one.toml").write_text(f'{HEADER}base = "digits"\nseeds = 1\n[arms.A]\n')
    return tmp_path


def launch() -> None:
    request = GridRequest.from_arguments("one.toml", "mine.toml", None, {}, Path("runs"))
    request.write(request.plan(), request.plan(), replay=False)


def doctor(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, list[str]]:
    """The exit code, and the lines about data and evaluations."""
    code = manage.main(["doctor", *options])
    lines = capsys.readouterr().out.splitlines()
    return code, [line for line in lines if line.split()[1] in ("data:", "base:", "evaluation:", "runs:")]


def test_a_base_is_checked_before_a_launch(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ok = [
        f"ok      evaluation: by digits-cnn against {here}/mine.npz",
        f"ok      data: mine: 30 images in {here}/mine",
    ]
    assert doctor(capsys, "--base", "mine.toml") == (0, ok)
    Path("mine.npz").unlink()
    code, (evaluation, data) = doctor(capsys, "--base", "mine.toml")
    assert (code, data) == (1, ok[1])
    assert evaluation.startswith(f"fail    evaluation: evaluation.reference = {here}/mine.npz: no such file")
    shutil.move("mine", "moved")
    code, (base,) = doctor(capsys, "--base", "mine.toml")
    assert code == 1
    assert base.startswith(f"fail    base: data.name = mine: needs a prepared data set, and no manifest.json in {here}")
    assert "if it was moved, change data.root" in base


@pytest.mark.parametrize("options", [("--base", "mine"), ("--grid", "one"), ()])
def test_launched_runs_are_checked(options: tuple[str, ...], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    launch()
    code, lines = doctor(capsys, *options)
    assert code == 0
    assert f"ok      data: mine: 30 images in {here}/mine" in lines
    shutil.move("mine", "moved")
    code, lines = doctor(capsys, *options)
    (found,) = (line for line in lines if " data: mine: " in line)
    assert (code, found.split()[0]) == ((1, "fail") if options else (0, "warning"))
    assert "if it was moved, change data.root, give --data DIR, or set $DIFFUSSM_DATA" in found


def test_data_that_have_changed_since_the_reference_was_built(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepared_digits(here / "mine", 31)
    code, lines = doctor(capsys, "--base", "mine.toml")
    assert code == 0
    assert [line.split()[0] for line in lines] == ["ok", "warning", "ok"]
    assert "mine.npz: was built from data with digest" in lines[1]


def test_a_base_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Exception, match="base: unknown name 'yours'"):
        doctor(capsys, "--base", "yours")
