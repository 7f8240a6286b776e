"""The local pool as a user sees it: real launchers and workers, and faults in an external mixer."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.support.grid_folder import Folder
from tests.support.processes import children
from tests.support.processor import processor_seconds_of
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    made.mixer()
    made.grid('one = { model.mixer = "my:Mixer" }')
    return made


@pytest.fixture
def builtin(tmp_path: Path) -> Folder:
    """A folder with a grid of one run of a built-in mixer, which launches faster than an external one."""
    made = Folder(tmp_path)
    made.grid('one = { model.scan = "serpentine" }')
    return made


def is_training(folder: Folder) -> bool:
    return any(run.state().phase == "train" for run in folder.all())


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("ONCE os.kill(os.getpid(), signal.SIGKILL)", "training: killed by SIGKILL; tried again"),
        ("ONCE raise MemoryError('none left')", "training: MemoryError: none left; tried again"),
    ],
)
def test_a_failure_that_may_pass_is_tried_once_more(fault: str, message: str, folder: Folder) -> None:
    folder.mixer(fault)
    done = folder.launch("--jobs", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert message in done.stdout
    assert folder.one().owner() == 2


def test_a_failure_of_the_code_is_not_tried_again(folder: Folder) -> None:
    folder.mixer("raise ValueError('not like this')")
    done = folder.launch("--jobs", "1")
    assert done.returncode == 1
    run = folder.one()
    assert "failed: training: ValueError: not like this" in done.stdout
    assert "    ValueError: not like this" in done.stdout  # the last lines of its log
    assert f"log: {run.log_path(1).relative_to(folder.path)}" in done.stdout
    assert "tried again" not in done.stdout
    assert run.owner() == 1

    again = folder.launch("--jobs", "1")
    assert again.returncode == 1
    assert "failed: training: ValueError: not like this" in again.stderr
    assert "manage.py retry --failed" in again.stderr
    assert run.owner() == 1  # there was no further attempt


@pytest.mark.slow
def test_a_failure_of_the_code_is_tried_again_after_an_order_or_a_change_of_the_code(folder: Folder) -> None:
    folder.mixer("raise ValueError('not like this')")
    assert folder.launch("--jobs", "1").returncode == 1
    run = folder.one()
    assert "1 run to be retried" in folder.manage("retry", "--failed")
    assert folder.launch("--jobs", "1").returncode == 1
    assert run.owner() == 2
    folder.mixer()
    assert folder.launch("--jobs", "1").returncode == 0
    assert run.owner() == 3


def test_a_run_survives_the_termination_of_its_worker(builtin: Folder) -> None:
    builtin.settings[builtin.settings.index("--set=training.steps=24")] = "--set=training.steps=600"
    launcher = builtin.start("--jobs", "1")
    wait_for(lambda: is_training(builtin))
    (worker,) = children(launcher.pid)
    os.kill(worker, signal.SIGTERM)
    output, _ = launcher.communicate(timeout=120)
    assert launcher.returncode == 0, output
    assert builtin.one().owner() == 2


def test_debug_does_not_touch_a_run_that_another_launch_works_on(builtin: Folder) -> None:
    builtin.settings[builtin.settings.index("--set=training.steps=24")] = "--set=training.steps=100000"
    launcher = builtin.start("--jobs", "1")
    wait_for(lambda: is_training(builtin))
    done = builtin.launch("--executor", "debug")
    assert done.returncode == 1
    assert "superseded: another launch works on it" in done.stdout
    assert builtin.one().owner() == 1
    launcher.send_signal(signal.SIGINT)
    launcher.communicate(timeout=40)


def test_modules_that_a_mixer_imports_are_copied_too(folder: Folder) -> None:
    """A sibling, a package with its data, and a namespace package: editing them during the launch has no effect."""
    for name in ("sibling.py", "parts/__init__.py", "bare/inner.py"):
        (folder.path / name).parent.mkdir(exist_ok=True)
        (folder.path / name).write_text("fine = True\n")
    (folder.path / "parts" / "table.txt").write_text("1")
    folder.mixer()
    mine = folder.path / "my.py"
    mine.write_text("import sibling, parts, bare.inner\n" + mine.read_text())
    folder.grid("\n".join(f'r{n} = {{ model.mixer = "my:Mixer", training.lr = {1e-3 * n} }}' for n in (1, 2)))
    launcher = folder.start("--jobs", "1")
    wait_for(lambda: any(folder.runs.glob("code/*/origin.json")))
    for name in ("my.py", "sibling.py", "parts/__init__.py", "bare/inner.py"):
        (folder.path / name).write_text("raise SystemExit('edited')")
    output, _ = launcher.communicate(timeout=120)
    assert launcher.returncode == 0, output
    (copy,) = (path for path in (folder.runs / "code").iterdir() if path.is_dir())
    copied = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.parts[-2] not in ("diffussm",)}
    assert {"my.py", "sibling.py", "parts/__init__.py", "parts/table.txt", "bare/inner.py"} <= copied


def test_a_run_killed_twice_has_failed(folder: Folder) -> None:
    folder.mixer("os.kill(os.getpid(), signal.SIGKILL)")
    done = folder.launch("--jobs", "1")
    assert done.returncode == 1
    assert "failed: training: killed by SIGKILL" in done.stderr
    assert folder.one().owner() == 2
    assert "1 failed" in folder.manage("status")
    assert "killed by SIGKILL" in folder.manage("status")
    assert "1 run to be retried" in folder.manage("retry", "--failed")


def test_evaluation_does_not_wait_for_the_end_of_training(tmp_path: Path) -> None:
    """With two slots, the first milestone of a run is evaluated before its training ends."""
    folder = Folder(tmp_path, **{"training.steps": 3000, "training.milestones": [10]})
    folder.grid("one = { model.scan = 'serpentine' }")
    launcher = folder.start("--jobs", "2")
    wait_for(lambda: any(folder.runs.glob("*/milestones/10/*/record.json")))
    assert folder.one().state().phase == "train"
    launcher.send_signal(signal.SIGINT)
    launcher.communicate(timeout=40)


def test_workers_of_a_killed_launcher_stop_soon(builtin: Folder) -> None:
    builtin.settings[builtin.settings.index("--set=training.steps=24")] = "--set=training.steps=100000"
    launcher = builtin.start("--jobs", "1")
    wait_for(lambda: is_training(builtin))
    (worker,) = children(launcher.pid)
    launcher.kill()
    launcher.communicate()
    taken = [processor_seconds_of(worker)]
    while taken[-1]:  # it lives
        time.sleep(0.05)
        taken.append(processor_seconds_of(worker))
    run = builtin.one()
    assert max(taken) - taken[0] < 5
    assert run.state().phase == "stopped"
    assert run.state().reason == "the launcher is gone"
    assert run.trained_steps() >= run.state().step  # the checkpoint is newer than the last state before it


def test_two_launches_start_each_run_once(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.grid("\n".join(f"rate-{n} = {{ training.lr = {1e-3 * n} }}" for n in range(1, 5)))
    both = [folder.start("--jobs", "1"), folder.start("--jobs", "1")]
    outputs = [launcher.communicate(timeout=120)[0] for launcher in both]
    assert [launcher.returncode for launcher in both] == [0, 0], outputs
    assert len(folder.all()) == 4
    for run in folder.all():
        assert run.owner() == 1
        assert [evaluation.owner() for evaluation in run.evaluations()] == [1, 1, 1]


def test_editing_the_source_does_not_affect_a_running_launch(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    for room in ("diffussm", "ablations"):
        shutil.copytree(ROOT / room, clone / room, ignore=shutil.ignore_patterns("__pycache__"))
    folder = Folder(tmp_path, root=clone)
    folder.grid("\n".join(f"rate-{n} = {{ training.lr = {1e-3 * n} }}" for n in range(1, 4)))
    launcher = folder.start("--jobs", "1")
    wait_for(lambda: any(folder.runs.glob("code/*/origin.json")))
    for path in ("diffussm/run/runner.py", "ablations/local/worker.py", "diffussm/training/loop.py"):
        (clone / path).write_text("raise SystemExit('edited')")
    output, _ = launcher.communicate(timeout=120)
    assert launcher.returncode == 0, output
    (copy,) = (path for path in (folder.runs / "code").iterdir() if path.is_dir())
    origin = json.loads((copy / "origin.json").read_text())
    assert origin["code"] == copy.name
    assert not os.stat(copy / "ablations" / "cell.py").st_mode & 0o222
    records = list(folder.runs.glob("*/milestones/*/*/record.json"))
    assert len(records) == 9
    assert {json.loads(path.read_text())["provenance"]["code"] for path in records} == {copy.name}


@pytest.mark.slow
def test_orders_reach_a_running_launch(folder: Folder) -> None:
    """Within one launch, a cancelled run stops after a checkpoint, continues when retried, and trains further when
    extended."""
    folder.settings[folder.settings.index("--set=training.steps=24")] = "--set=training.steps=1500"
    folder.grid('one = { model.mixer = "my:Mixer" }\ntwo = { training.lr = 1e-3 }')
    launcher = folder.start("--jobs", "2")
    wait_for(lambda: len(folder.all()) == 2 and all(run.state().phase == "train" for run in folder.all()))
    assert "1 run cancelled" in folder.manage("cancel", "--only", "one")
    (one,) = (run for run in folder.all() if "mixer" in run.run_id)
    wait_for(lambda: one.state().phase == "cancelled", 15)
    assert 0 < one.trained_steps() < 1500
    assert "1 cancelled" in folder.manage("status")
    folder.manage("retry", "--cancelled")
    output = folder.manage("extend", "--steps", "1600", "--only", "one")
    assert "--set training.steps=1600" in output
    output, _ = launcher.communicate(timeout=120)
    assert launcher.returncode == 0, output
    assert "one, seed 0: cancelled" in output
    assert one.trained_steps() == 1600
    assert sorted(int(path.name) for path in (one.path / "milestones").iterdir()) == [8, 16, 24, 1500, 1600]
    assert one.owner() == 2


def test_a_cancelled_run_is_not_started(builtin: Folder) -> None:
    assert builtin.launch("--jobs", "1").returncode == 0
    builtin.manage("extend", "--steps", "32")
    builtin.manage("cancel")
    done = builtin.launch("--jobs", "1", "--set=training.steps=32")
    assert done.returncode == 2  # training.steps is set twice
    builtin.settings.remove("--set=training.steps=24")
    done = builtin.launch("--jobs", "1", "--set=training.steps=32")
    assert done.returncode == 1
    assert "cancelled: by manage.py cancel" in done.stderr
    assert builtin.one().trained_steps() == 24


def test_a_grid_on_several_bases(builtin: Folder, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(path.read_text().replace('base = "digits"', 'base = ["digits", "digits16"]'))
    done = builtin.launch("--jobs", "2")
    assert done.returncode == 0, done.stderr
    assert "digits16: one, seed 0: done" in done.stdout
    assert {path.stem for path in (builtin.runs / "grids").iterdir()} == {"mine-digits.1", "mine-digits16.1"}
    summary = builtin.manage("status", "--grid", "mine").splitlines()[-2:]
    assert summary == ["mine on digits: 1 run: 1 done", "mine on digits16: 1 run: 1 done"]
