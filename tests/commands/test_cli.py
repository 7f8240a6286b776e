"""The command `diffussm`, as a user types it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tests.support.tiny as tiny
from diffussm import cli
from diffussm.config import Request
from diffussm.metrics.pictures.sheet import BAND
from diffussm.store.rundir import RunDir


def diffussm(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["diffussm", *arguments])
    return cli.main()


def test_a_sheet_for_each_class(
    trained: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [
        "sample",
        str(trained.path),
        "--classes",
        "3,7",
        "--guidance",
        "1.5",
        "--layout",
        "2x4",
        "--out",
        str(tmp_path),
    ]
    assert diffussm(monkeypatch, *given) == 0
    paths = [Path(line) for line in capsys.readouterr().out.split()]
    assert [path.name for path in paths] == [f"class-{label}-step-24-ddim-2-guidance-1.5.png" for label in (3, 7)]
    sheets = [np.asarray(Image.open(path)) for path in paths]
    scale = sheets[0].shape[1] // (4 * 9)
    assert sheets[0].shape == (2 * 9 * scale + BAND, 4 * 9 * scale, 3)  # the name of the class is below
    assert (sheets[0] != sheets[1]).any()


@pytest.mark.parametrize("option", ["--layout", "--grid"])  # the second is its former name
def test_an_earlier_milestone_and_all_classes(
    option: str, trained: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = (option, "1x3", "--step", "8", "--out", str(tmp_path))
    assert diffussm(monkeypatch, "sample", str(trained.path), *given) == 0
    height, width, _ = np.asarray(Image.open(tmp_path / "all-step-8-ddim-2-guidance-1.png")).shape
    assert width == 3 * (height - BAND)  # of the names


def test_guidance_is_that_of_the_run_unless_given(
    trained: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir(Path(shutil.copytree(trained.path, tmp_path / trained.run_id)))
    run.add_requests([Request.from_config(tiny.config(evaluation__guidance=1.5))])
    made = []
    for given in ([], ["--guidance", "1"], ["--guidance", "3"]):
        out = tmp_path / f"sheets-{len(made)}"
        assert diffussm(monkeypatch, "sample", str(run.path), "--layout", "1x2", "--out", str(out), *given) == 0
        made += [path.name.partition("guidance-")[2] for path in out.iterdir()]
    assert made == ["1.5.png", "1.png", "3.png"]


def test_the_former_name_of_layout_is_hidden(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert diffussm(monkeypatch, "sample", "--help") == 0
    assert "--layout" in (shown := capsys.readouterr().out)
    assert "--grid" not in shown


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--classes", "10"], "--classes 10: must be between 0 and 9"),
        (["--classes", "three"], "--classes three: must be between 0 and 9, the classes of this model"),
        (["--layout", "8"], "--layout 8: expected rows x columns"),
        (["--grid", "8"], "--grid 8: expected rows x columns"),
        (["--step", "7"], "step 7: no ema weights are kept of this step; available: 8, 16, 24"),
        (["--sampler-steps", "7"], "evaluation.sampler_steps: 7 does not divide"),
        (["--guidance", "much"], "Invalid value for '--guidance'"),
        (["--guidnce", "2"], "No such option: --guidnce"),
    ],
)
def test_mistakes_are_one_line(
    trained: RunDir,
    given: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert diffussm(monkeypatch, "sample", str(trained.path), *given) == 2
    stderr = capsys.readouterr().err
    assert words in stderr
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1


def test_unconditional_runs_have_no_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny.run_folder(tmp_path, model__classes=0, evaluation__metrics=["fid"])
    assert diffussm(monkeypatch, "sample", str(run.path)) == 2
    assert "no ema weights are kept yet" in capsys.readouterr().err
    assert diffussm(monkeypatch, "sample", str(run.path), "--classes", "1") == 2
    assert "model is unconditional" in capsys.readouterr().err
