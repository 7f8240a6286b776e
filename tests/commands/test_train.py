"""`diffussm train`: a run from a base, a file or a folder, by one process or several."""

import os
import shutil
import signal
import sys
import tomllib
from pathlib import Path

import pytest
import torch

import tests.support.tiny as tiny
from ablations import launch
from diffussm import cli
from diffussm.config import BASES, resolve, run_id
from diffussm.metrics.evaluation import milestones
from diffussm.run.attempt import Attempt
from diffussm.run.tasks import is_done
from diffussm.store.rundir import RunDir
from diffussm.training.trainer import Trainer
from tests.support import forked
from tests.support.damage import flip
from tests.support.prepared_set import noise_images, write_prepared
from tests.training.test_resume import assert_same, at_call, outcome

SETTINGS = [f"--set={key}={value}" for key, value in tiny.SETTINGS.items()]


@pytest.fixture
def diffussm(monkeypatch: pytest.MonkeyPatch) -> "Command":
    return Command(monkeypatch)


class Command:
    """`diffussm train`, in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.monkeypatch = monkeypatch

    def __call__(self, *arguments: object) -> int:
        self.monkeypatch.setattr("sys.argv", ["diffussm", "train", *map(str, arguments)])
        return cli.main()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Made by two processes of torchrun."""
    folder = tmp_path_factory.mktemp("elsewhere")  # where only the installed package can be imported
    runs = folder / "runs"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "diffussm", "train", "digits", "--runs", str(runs), *SETTINGS]
    done = forked.run(command, cwd=folder)
    assert done.returncode == 0, done.stderr
    (path,) = runs.iterdir()
    assert done.stdout == f"{path}\n"
    assert "training: step 24 of 24" in done.stderr
    assert "evaluation of step 8: sample 12 of 12" in done.stderr
    return RunDir(path)


def test_torchrun(finished: RunDir) -> None:
    assert is_done(finished)
    execution = finished.execution()
    assert execution
    assert execution.micro_batches == 2


def test_the_run_is_that_of_a_grid(tmp_path: Path, diffussm: Command, finished: RunDir) -> None:
    grid = tmp_path / "alone.toml"
    lines = [f'{name} = "a test"' for name in ("claim", "source", "expected", "cost", "command")]
    grid.write_text("\n".join([*lines, 'base = "digits"', "seeds = 1", "[axes.lr]", "own = { training.lr = 5e-3 }"]))
    launch.main(["--grid", str(grid), "--runs", str(tmp_path / "runs"), *SETTINGS, "--executor", "debug"])
    (path,) = (tmp_path / "runs").glob("digits-*")
    assert path.name == finished.run_id == run_id(resolve("digits", tiny.SETTINGS))
    assert [request.digest for request in RunDir(path).requests()] == [
        request.digest for request in finished.requests()
    ]
    before = outcome(RunDir(path))
    assert diffussm("digits", "--runs", tmp_path / "runs", *SETTINGS) == 0  # nothing is left
    assert RunDir(path).owner() == 1
    assert_same(outcome(RunDir(path)), before)


def test_stopped_and_continued(
    tmp_path: Path, diffussm: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    undisturbed = tmp_path / "undisturbed"
    assert diffussm("digits", "--runs", undisturbed, *SETTINGS) == 0
    usual = Trainer.step

    def interrupted(trainer: Trainer) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        return usual(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", at_call(13, interrupted, usual))
        assert diffussm("digits", "--runs", tmp_path / "runs", *SETTINGS) == 3
    assert "stopped: SIGINT at step 13" in capsys.readouterr().err
    (path,) = (tmp_path / "runs").iterdir()
    assert RunDir(path).trained_steps() == 13
    assert diffussm(path) == 0
    assert_same(outcome(RunDir(path)), outcome(RunDir(undisturbed / path.name)))


def test_a_file_as_base(tmp_path: Path, diffussm: Command) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text((BASES / "digits.toml").read_text())
    assert resolve(str(recipe), tiny.SETTINGS) == resolve("digits", tiny.SETTINGS)
    sections = tomllib.loads(recipe.read_text())
    assert "sizes" in sections
    recipe.write_text(
        """
model = { depth = 1, width = 8, state = 4, hourglass = 4, image_size = 8, channels = 1, classes = 10 }
data.name = "digits"
training = { batch = 7, steps = 2, threads = 1 }
evaluation = { extractor = "digits-cnn", reference = "digits", metrics = ["fid"], samples = 12, sampler_steps = 2 }
"""
    )
    assert diffussm(recipe, "--runs", tmp_path / "runs", "--set", "seed=3") == 0
    (path,) = (tmp_path / "runs").iterdir()
    assert path.name.startswith("digits-diffussm-s4d-d1w8-m4p1-s3-")
    assert RunDir(path).trained_steps() == 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["digts"], "unknown name 'digts'; did you mean 'digits'?"),
        (["digits", "--set", "training.batch=0"], "training.batch"),
        (["digits", "--set", "model.image_size=16"], "model.image_size = 16: digits has image_size 8"),
        (["none.toml"], "none.toml: no such file"),
        (["bad.toml"], "bad.toml: not valid TOML"),
        (["flat.toml"], "flat.toml: model: must be a table"),
        (["sizeless.toml", "--set", "size=L"], "sizeless.toml: size = L: it has no table of sizes"),
        (["."], "not a run folder"),
        ([".", "--set", "seed=1"], "--set seed: . is a run folder"),
        (["digits", "--runs", "/proc/x"], "/proc/x/digits-"),
        ([".", "--runs", "x"], "--runs x: not used: . is a run folder"),
        (["digits", "--checkpoint-seconds", "-1"], "--checkpoint-seconds"),
        (["digits", "--stage", "", "--runs", "elsewhere"], "--stage: is empty; give a folder, such as '$SLURM_TMPDIR'"),
        (["digits", "--data", ""], "--data: is empty; give a folder, or leave it out"),
    ],
)
def test_mistakes_are_one_line(
    given: list[str],
    words: str,
    tmp_path: Path,
    diffussm: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.toml").write_text("=")
    Path("flat.toml").write_text("model = 3")
    Path("sizeless.toml").write_text('data.name = "digits"')
    assert diffussm(*given) == 2
    stderr = capsys.readouterr().err
    assert words in stderr
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1
    assert not Path("runs").exists()


def test_a_cancelled_run_is_not_resumed(tmp_path: Path, diffussm: Command, capsys: pytest.CaptureFixture[str]) -> None:
    run = tiny.run_folder(tmp_path)
    run.add_order("cancel")
    assert diffussm(run.path) == 2
    assert "the run is cancelled; add --retry to resume it" in capsys.readouterr().err
    assert run.owner() == 0
    assert diffussm(run.path, "--retry") == 0
    assert is_done(run)


def test_a_run_that_another_process_works_on(
    tmp_path: Path, diffussm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny.run_folder(tmp_path)
    number = run.claim()
    assert number
    with Attempt(run, number, lambda: False):
        assert diffussm(run.path) == 1
    assert "superseded: training: attempt 1 is at work in" in capsys.readouterr().err
    assert run.owner() == 1


def test_lost_milestones_need_a_replay(tmp_path: Path, diffussm: Command, capsys: pytest.CaptureFixture[str]) -> None:
    kept = [setting for setting in SETTINGS if "milestones" not in setting]
    given = ("digits", "--runs", tmp_path, *kept)
    assert diffussm(*given, "--set=training.milestones=[24]") == 0
    assert diffussm(*given, "--set=training.milestones=[16]") == 2
    assert "kept no weights of step 16" in capsys.readouterr().err
    (path,) = tmp_path.iterdir()
    assert len(RunDir(path).requests()) == 1
    assert diffussm(*given, "--set=training.milestones=[16]", "--replay") == 0
    assert RunDir(path).weights(16, "ema").exists()


def test_a_folder_with_lost_weights_is_not_done(
    tmp_path: Path, finished: RunDir, diffussm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDir(tmp_path / finished.run_id)
    shutil.copytree(finished.path, run.path)
    run.weights(8, "ema").unlink()
    assert diffussm(run.path) == 0  # its record is there
    next(run.milestone(8).glob("*/record.json")).unlink()
    assert diffussm(run.path) == 2
    assert "kept no weights of step 8" in capsys.readouterr().err
    assert diffussm(run.path, "--replay") == 0
    assert run.weights(8, "ema").read_bytes() == finished.weights(8, "ema").read_bytes()
    assert is_done(run)


@pytest.mark.parametrize("damaged", [False, True])
def test_lost_weights_come_from_a_checkpoint_of_that_step(
    damaged: bool, tmp_path: Path, finished: RunDir, diffussm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a replay; a damaged checkpoint is set aside."""
    run = RunDir(tmp_path / finished.run_id)
    shutil.copytree(finished.path, run.path)
    shutil.rmtree(run.milestone(16))
    if damaged:
        flip(run.checkpoint(16, 1), -9)
    assert diffussm(run.path) == (2 if damaged else 0)
    stderr = capsys.readouterr().err
    if damaged:
        assert "set aside as 000000016-1.pt.damaged" in stderr
        assert "kept no weights of step 16" in stderr
    else:
        assert f"{run.weights(16, 'ema')}: made again from checkpoint 000000016-1.pt" in stderr
        assert run.weights(16, "ema").read_bytes() == finished.weights(16, "ema").read_bytes()
    assert is_done(run) is not damaged


def test_a_failure_is_reported(
    tmp_path: Path, diffussm: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: Trainer) -> None:
        raise ValueError("odd")

    run = tiny.run_folder(tmp_path)
    monkeypatch.setattr(Trainer, "step", fails)
    assert diffussm(run.path) == 1
    assert "ValueError: odd" in capsys.readouterr().err
    assert run.state().phase == "failed"


def test_a_stage_holds_what_is_trained_on(
    tmp_path: Path, diffussm: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DIFFUSSM_STAGE", "")  # as it is after the test
    monkeypatch.chdir(tmp_path)
    write_prepared(Path("set"), noise_images(shape=(1, 8, 8)), classes=tuple("0123456789"))
    data = ("--set=data.name=mine", "--set=data.root=set")
    assert diffussm("digits", *SETTINGS, *data, "--runs", "runs", "--stage", "fast") == 0
    (copy,) = Path("fast").iterdir()
    assert (copy / "manifest.json").read_bytes() == Path("set/manifest.json").read_bytes()
    assert f"set: is copied to {copy.absolute()}" in capsys.readouterr().err
    assert diffussm("digits", *SETTINGS, "--runs", "runs", "--stage", "fast") == 2
    assert capsys.readouterr().err == "error: --stage fast: not used: digits: only prepared data sets are copied\n"


def test_samples_that_are_not_finite_are_one_line(
    tmp_path: Path, diffussm: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def network(*_: object) -> object:
        return lambda x, *_: torch.full((len(x), 2 * x.shape[1], *x.shape[2:]), float("nan"))

    run = tiny.run_folder(tmp_path)
    monkeypatch.setattr(milestones, "network_with", network)
    assert diffussm(run.path) == 1
    error = f"{run.weights(8, 'ema')}: sample 0 is not finite"
    assert f"error: {error}\n" in capsys.readouterr().err
    (evaluation,) = run.evaluations()
    assert evaluation.state().reason == error
