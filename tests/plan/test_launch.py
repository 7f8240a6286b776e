"""The launcher as a user runs it: real worker processes, real folders, exit codes, and what is printed."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tests.support.tiny as tiny
from ablations import launch
from ablations.grid.arms import Arm
from ablations.grid.reading import load
from ablations.grid.runs import Run, expand
from ablations.local import results
from ablations.plan.plan import PlannedRun, plan
from diffussm.errors import UserError, exit_code
from diffussm.store import manifests
from diffussm.store.rundir import RunDir
from tests.support import forked
from tests.support.processor import processor_seconds
from tests.support.synthetic_records import ARMS, basic_metrics, grid, write
from tests.support.tiny_grid import SETTINGS, arguments
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]


def command(*given: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "ablations/launch.py", *given], cwd=ROOT, capture_output=True, text=True, check=False
    )


def folders(runs: Path) -> list[RunDir]:
    return [RunDir(path.parent) for path in sorted(runs.glob("*/config.json"))]


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny grid, run by the local pool."""
    runs = tmp_path_factory.mktemp("launched") / "runs of a user's"
    done = command(*arguments(runs))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All 3 runs are done. Next: python reports/make_figures.py" in done.stdout
    return runs


def test_local_pool(launched: Path) -> None:
    assert len(folders(launched)) == 3
    for run in folders(launched):
        assert run.state().phase == "done"
        assert len(list(run.path.glob("milestones/*/*/record.json"))) == 3
        assert (run.path / "provenance-1.json").exists()


def test_a_second_launch_has_nothing_to_do(launched: Path) -> None:
    done = []
    assert processor_seconds(lambda: done.append(command(*arguments(launched)))) < 2
    assert done[0].returncode == 0
    assert done[0].stdout.startswith("Nothing left to train: all 3 runs of hourglass_vs_patch on digits are done.")
    assert re.search(r"^M = 1, P = 1 +1 +24 +\d+\.\d\d +\d\.\d+$", done[0].stdout, flags=re.M)


def test_results_are_means_over_seeds(tmp_path: Path) -> None:
    settings = {key: value for key, value in tiny.SETTINGS.items() if key != "model.hourglass"}

    def planned(folder: Path) -> list[PlannedRun]:
        return plan("digits", expand(grid(ARMS), "digits", range(3), settings), folder)

    assert results.table(planned(tmp_path / "none")) == ""
    write(tmp_path, basic_metrics)
    _, _, *rows = results.table(planned(tmp_path)).splitlines()
    assert [row.split() for row in rows] == [
        ["A", "3", "24", "2.00", "0.600"],
        ["B", "3", "24", "6.10", "0.600"],
        ["C", "1", "24", "2.10", "0.500"],  # the others have no results
    ]


def test_dry_run_knows_what_is_done(launched: Path) -> None:
    done = command(*arguments(launched, "--dry-run"))
    assert done.returncode == 0
    assert done.stdout.count(" done") >= 3
    assert "3 runs: 3 done" in done.stdout


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    done = command("--grid", "hourglass_vs_patch", "--runs", str(tmp_path / "runs"), "--dry-run")
    assert done.returncode == 0
    for run in expand(load("hourglass_vs_patch"), "digits", range(3), {}):
        assert run.run_id in done.stdout
    assert "2,347,520" in done.stdout  # MACs of M = 2
    assert "121,284" in done.stdout  # its parameters
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--grid", "hourglass_vs_patches"], "did you mean 'hourglass_vs_patch'? valid: attention_vs_ssm"),
        (["--grid", "hourglass_vs_patch", "--base", "digit"], "did you mean 'digits'? valid: cifar10"),
        (["--grid", "hourglass_vs_patch", "--set", "training.step=3"], "did you mean 'training.steps'?"),
        (["--grid", "hourglass_vs_patch", "--set", "training.steps"], "give it as section.field=value"),
        (["--grid", "hourglass_vs_patch", "--set", "training.steps=few"], "training.steps = 'few'"),
        (
            ["--grid", "hourglass_vs_patch", "--set", "model.mixer=conv"],
            "model.mixer = 'conv': unknown name 'conv'; valid:",
        ),
        (["--grid", "hourglass_vs_patch", "--set", "model.classes=4"], "model.classes = 4: digits has 10"),
        (["--grid", "hourglass_vs_patch", "--set", "data.name=faces"], "prepare SOURCE DIR --image-size 8`"),
        (["--grid", "hourglass_vs_patch", "--set", "evaluation.extractor=vgg"], "valid: digits-cnn"),
        (
            ["--grid", "hourglass_vs_patch", "--set", "evaluation.extractor=photos-cnn"],
            "is for 3 x 32 x 32 images, but",
        ),
        (
            ["--grid", "hourglass_vs_patch", "--base", "imagenet256"],
            "imagenet256-latents: needs a prepared data set",
        ),
        (["--grid", "no/such/grid.toml"], "--grid 'no/such/grid.toml': there is no such file"),
        (["--grid", "model_scale", "--set", "size=S"], "--set size: axes.size.S sets it already"),
        (["--grid", "hourglass_vs_patch", "--executor", "slrm"], "valid: debug, local"),
        (["--grid", "hourglass_vs_patch", "--only", "M = 3*"], "no arm, level or run id matches"),
        (["--grid", "hourglass_vs_patch", "--seeds", "0"], "argument --seeds: 0 is not at least 1"),
        (["--grid", "hourglass_vs_patch", "--seeds", "many"], "argument --seeds"),
        (["--gird", "hourglass_vs_patch"], "--grid"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    given: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(lambda: launch.main([*given, "--runs", str(tmp_path / "runs")])) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def run_that_cannot_continue(runs: Path) -> RunDir:
    """The folder of a run whose checkpoint, written by an earlier version, is of another model."""
    settings = {key: value for key, value in tiny.SETTINGS.items() if key != "model.hourglass"}
    run = RunDir.create(runs, expand(load("hourglass_vs_patch"), "digits", [0], settings)[0].config)
    run.checkpoint(5, 1).parent.mkdir()
    torch.save({"step": 5, "model": {}, "ema": {}, "optimiser": {}}, run.checkpoint(5, 1))
    return run


def test_a_failing_run_does_not_stop_the_others(tmp_path: Path) -> None:
    broken = run_that_cannot_continue(tmp_path)
    done = forked.run([sys.executable, "ablations/launch.py", *arguments(tmp_path)], cwd=ROOT)
    assert done.returncode == 1
    assert f"{broken.run_id}: failed: training: {broken.checkpoint(5, 1)}: does not fit the model" in done.stderr
    assert f"log: {broken.path / 'log-1.txt'}" in done.stdout
    assert "]     " in done.stdout  # its last lines
    assert sorted(run.state().phase for run in folders(tmp_path)) == ["done", "done", "failed"]


def test_ctrl_c_and_again(tmp_path: Path) -> None:
    slow = [*SETTINGS, "--only", "M = 2*", "--jobs", "1"]
    slow[slow.index("training.steps=24")] = "training.steps=1200"
    given = [sys.executable, "ablations/launch.py", *arguments(tmp_path, settings=slow)]
    launcher = forked.Program(given, cwd=ROOT)
    wait_for(lambda: any(run.state().phase == "train" for run in folders(tmp_path)))
    launcher.send_signal(signal.SIGINT)
    output, _ = launcher.communicate(timeout=40)
    assert launcher.returncode == 130
    assert "Interrupted. The same command continues from the last checkpoints." in output
    (run,) = folders(tmp_path)
    assert run.state().phase == "stopped"
    reached = run.trained_steps()
    assert 0 < reached < 1200
    worker = int((run.path / "log-1.txt").read_text().split("process ")[1].split()[0])
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
    slow[slow.index("training.steps=1200")] = f"training.steps={reached + 8}"
    slow[slow.index("training.milestones=[8, 16, 24]")] = "training.milestones=[]"
    given = [sys.executable, "ablations/launch.py", *arguments(tmp_path, settings=slow)]
    assert forked.run(given, cwd=ROOT).returncode == 0
    assert run.state().phase == "done"


def test_debug_executor_and_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch.main(arguments(tmp_path, "--executor", "debug", "--only", "M = 1, P = 2")) == 0
    (run,) = folders(tmp_path)
    assert run.config().model.patch == 2
    assert "M = 1, P = 2, seed 0: done (1 of 1)" in capsys.readouterr().out


def test_debug_executor_lets_the_failure_through(tmp_path: Path) -> None:
    broken = run_that_cannot_continue(tmp_path)
    with pytest.raises(UserError, match="does not fit the model"):
        launch.main(arguments(tmp_path, "--executor", "debug"))
    assert broken.state().phase == "failed"


def test_milestones_that_cannot_be_had_are_refused(launched: Path) -> None:
    given = [*SETTINGS]
    given[given.index("training.milestones=[8, 16, 24]")] = "training.milestones=[4]"
    with pytest.raises(UserError, match="is trained to step 24 and kept no weights of step 4"):
        launch.main(arguments(launched, settings=given))


def test_other_settings_start_a_new_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = arguments(tmp_path, "--executor", "debug", "--only", "M = 1, P = 2")
    assert launch.main(first) == 0

    def newest() -> str:
        (path,) = manifests.newest(tmp_path)
        return path.read_text()

    assert newest().count('"run_id"') == 3  # arms that were not launched are rows too
    more_seeds = arguments(tmp_path, "--executor", "debug", "--only", "M = 2*")
    more_seeds[more_seeds.index("--seeds") + 1] = "2"
    assert launch.main(more_seeds) == launch.main(first) == 0
    assert newest().count('"run_id"') == 6
    capsys.readouterr()
    other = arguments(tmp_path, "--executor", "debug", "--only", "M = 2*", "--set", "evaluation.guidance=2.0")
    assert launch.main(other) == 0
    assert newest().count('"run_id"') == 3
    assert "The settings differ from those of the last launch" in capsys.readouterr().out


def test_an_arm_removed_from_the_grid_is_removed_from_the_manifest(tmp_path: Path) -> None:
    path, runs = tmp_path / "mine.toml", tmp_path / "runs"
    header = "".join(f"{key} = 'x'\n" for key in ("claim", "source", "expected", "cost", "command"))
    two = header + "base = 'digits'\nseeds = 1\n[arms.'[m=2]']\n[arms.b]\nmodel.hourglass = 8\n"
    given = ["--grid", str(path), "--runs", str(runs), "--executor", "debug", *SETTINGS]
    path.write_text(two)
    assert launch.main(given) == 0
    path.write_text(two.split("[arms.b]")[0])
    assert launch.main(given) == 0
    assert '"b"' in (runs / "grids" / "mine-digits.1.json").read_text()
    assert '"b"' not in (runs / "grids" / "mine-digits.2.json").read_text()


def test_names_are_not_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.toml"
    header = "".join(f"{key} = 'x'\n" for key in ("claim", "source", "expected", "cost", "command"))
    path.write_text(header + "base = 'digits'\nseeds = 1\n[arms.'[/m=2]']\n")
    assert launch.main(["--grid", str(path), "--runs", str(tmp_path), "--dry-run"]) == 0
    assert "[/m=2]" in capsys.readouterr().out


def test_runs_that_arms_share_are_counted_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [f"--set={key}={value}" for key, value in tiny.SETTINGS.items()]
    settings = [part for part in settings if "sampler_steps" not in part and "hourglass" not in part]
    settings[settings.index("--set=training.milestones=[8, 16, 24]")] = "--set=training.milestones=[24]"
    given = ["--grid", "sampler_steps", "--seeds", "1", "--runs", str(tmp_path), "--executor", "debug", *settings]
    assert launch.main(given) == 0
    output = capsys.readouterr().out
    assert "3 runs, 0 done before" in output
    assert "M = 2, P = 1, 10 steps and 2 more, seed 0: done" in output


def test_earlier_requests_are_reported(tmp_path: Path) -> None:
    tiny.run_folder(tmp_path, training__steps=64)
    run = Run(Arm("a", {"arm": "a"}, {}), tiny.config())
    assert plan("digits", [run], tmp_path)[0].description == "new (64 steps were requested before)"


@pytest.mark.parametrize("given", [["--help"], ["--grid", "hourglass_vs_patch", "--dry-run"]])
def test_starts_within_a_second_and_without_torch(given: list[str]) -> None:
    done = []
    assert processor_seconds(lambda: done.append(command(*given))) < 1
    assert done[0].returncode == 0
    code = (
        "import runpy, sys\n"
        "try: runpy.run_path('ablations/launch.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'numpy', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, *given], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
