"""Grids as whoever looks after them sees them: from any shell, from run folders alone."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ablations import manage
from ablations.plan.request import GridRequest
from diffussm.errors import UserError
from diffussm.store import manifests
from diffussm.store.integrity.digest import ZEROS, seal
from diffussm.store.rundir import RunDir
from diffussm.store.state import State
from diffussm.store.writing import write_atomically
from tests.support.ending import popen
from tests.support.managing import folder, printed, status
from tests.support.processor import processor_seconds

ROOT = Path(__file__).parents[2]


def test_status(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "status", "--runs", str(runs))
    lines = text.splitlines()
    headings = "arm seed run state step evaluated loss FID steps/s ETA attempts reason"
    assert lines[0].split() == headings.split(" ")
    assert lines[-1] == "hourglass_vs_patch on digits: 3 runs: 3 done"
    content = status(capsys, runs)
    assert content["grids"][0]["done"] == 3
    for row in content["runs"]:
        assert (row["state"], row["step"], row["steps"], row["evaluated"]) == ("done", 24, 24, 3)
        run = RunDir(runs / row["run"])
        assert row["loss"] == run.loss_rows()[-1]["total"]
        last = json.loads(next(run.path.glob("milestones/24/*/record.json")).read_text())
        assert row["fid"] == last["metrics"]["fid"]
    only = status(capsys, runs, "--grid", "hourglass_vs_patch", "--only", "M = 2*")
    assert [row["arm"] for row in only["runs"]] == ["M = 2, P = 1"]


def test_every_state(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """pending, running, stale, failed, diverged and cancelled, each made in a run's folder and summed in one line."""
    one, two, three = (folder(runs, part) for part in ("m2p1", "m1p2", "m1p1"))
    for run in (one, two, three):
        shutil.rmtree(run.path / "milestones" / "24")
    states = status(capsys, runs)["runs"]
    assert {row["state"] for row in states} == {"pending"}
    for run, phase in ((one, "failed"), (two, "diverged")):
        number = run.claim()
        run.write_state(State(phase=phase, attempt=number, heartbeat=1, reason=f"it {phase}"))
    progress = {"lane": "train", "step": 20, "steps": 24, "loss": 0.5, "seconds_per_step": 0.5}
    training = State(phase="train", attempt=2, heartbeat=1, **progress)
    write_atomically(three.path / "owner-2.json", json.dumps({"place": "far", "pid": 1, "started": "1"}).encode())
    three.write_state(training.updated(warning="the disk was full"))
    rows = {row["arm"]: row for row in status(capsys, runs)["runs"]}
    assert rows["M = 2, P = 1"]["state"] == "failed"
    assert rows["M = 2, P = 1"]["reason"] == "it failed"
    assert rows["M = 1, P = 2"]["state"] == "diverged"
    running = rows["M = 1, P = 1"]
    assert (running["state"], running["eta_seconds"], running["steps_per_second"]) == ("running", 2.0, 2.0)
    assert running["reason"] == "the disk was full"
    assert (
        printed(capsys, "status", "--runs", str(runs))
        .splitlines()[-1]
        .endswith("3 runs: 1 running, 1 failed, 1 diverged")
    )
    write_atomically(three.path / "owner-3.json", json.dumps({"place": "far", "pid": 1, "started": "1"}).encode())
    three.write_state(training.updated(attempt=3))
    os.utime(three.path / "state.json", (1, 1))
    assert {row["arm"]: row["state"] for row in status(capsys, runs)["runs"]}["M = 1, P = 1"] == "stale"
    printed(capsys, "cancel", "--runs", str(runs), "--only", "M = 1, P = 1")
    assert {row["arm"]: row["state"] for row in status(capsys, runs)["runs"]}["M = 1, P = 1"] == "cancelled"
    assert "2 runs to be retried" in printed(capsys, "retry", "--failed", "--runs", str(runs))
    printed(capsys, "retry", "--cancelled", "--runs", str(runs))
    states = [row["state"] for row in status(capsys, runs)["runs"]]
    assert states == ["pending", "pending", "stale"]


def test_a_failed_evaluation_is_shown(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = folder(runs, "m2p1")
    evaluation = next(work for work in run.evaluations() if work.path.parent.name == "16")
    (evaluation.path / "record.json").unlink()
    owner, reason = evaluation.owner(), "sample 3 is not finite"
    evaluation.write_state(State(phase="failed", attempt=owner, heartbeat=9, reason=reason))
    row = {row["arm"]: row for row in status(capsys, runs)["runs"]}["M = 2, P = 1"]
    assert (row["state"], row["reason"], row["evaluated"]) == ("failed", "sample 3 is not finite", 2)
    printed(capsys, "retry", "--failed", "--runs", str(runs))
    row = {row["arm"]: row for row in status(capsys, runs)["runs"]}["M = 2, P = 1"]
    assert row["state"] == "pending"


def test_watch_ends_when_all_runs_have_ended(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "watch", "--runs", str(runs)).endswith("hourglass_vs_patch on digits: 3 runs: 3 done\n")
    assert json.loads(printed(capsys, "watch", "--json", "--runs", str(runs)))[0]["done"] == 3


def test_logs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = folder(runs, "m2p1")
    run.log_path(1).write_text("first\n")
    evaluation = run.evaluations()[0]
    evaluation.log_path(1).write_text("second\n")
    text = printed(capsys, "logs", run.run_id[:-4], "--runs", str(runs))
    where = evaluation.path.relative_to(run.path)
    assert text == f"==> log-1.txt <==\nfirst\n==> {where}/log-1.txt <==\nsecond\n"
    assert printed(capsys, "logs", "M = 2*", "--runs", str(runs)) == text
    assert [
        entry["text"] for entry in json.loads(printed(capsys, "logs", "M = 2*", "--json", "--runs", str(runs)))
    ] == [
        "first\n",
        "second\n",
    ]
    with pytest.raises(UserError, match="3 runs match"):
        manage.main(["logs", "digits", "--runs", str(runs)])
    with pytest.raises(UserError, match="unknown name 'digit16s'"):
        manage.main(["logs", "digit16s", "--runs", str(runs)])


def test_logs_are_followed(runs: Path) -> None:
    run = folder(runs, "m2p1")
    run.log_path(1).write_text("first\n")
    command = [sys.executable, "ablations/manage.py", "logs", "-f", run.run_id, "--runs", str(runs)]
    process = popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["==> log-1.txt <==\n", "first\n"]
    with run.log_path(1).open("a") as log:
        log.write("second\n")
    assert process.stdout.readline() == "second\n"
    process.terminate()
    process.communicate()


def test_extend_asks_for_more(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {run: len(RunDir(runs / run).requests()) for run in (row["run"] for row in status(capsys, runs)["runs"])}
    text = printed(capsys, "extend", "--steps", "40", "--grid", "hourglass_vs_patch", "--runs", str(runs))
    assert "--set training.steps=40 --set 'training.milestones=[8, 16, 24]'" in text
    rows = status(capsys, runs)["runs"]
    assert {(row["state"], row["step"], row["steps"], row["evaluated"], row["evaluations"]) for row in rows} == {
        ("pending", 24, 40, 3, 4)
    }
    assert all(len(RunDir(runs / run).requests()) == count + 1 for run, count in before.items())
    with pytest.raises(UserError, match="--steps 40: hourglass_vs_patch on digits has 40 steps; allowed: more"):
        manage.main(["extend", "--steps", "40", "--runs", str(runs)])


def test_a_damaged_file_affects_one_row(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = folder(runs, "m2p1")
    shutil.rmtree(run.path / "milestones" / "24")
    (run.path / "state.json").write_text("{")
    rows = {row["arm"]: row for row in status(capsys, runs)["runs"]}
    assert rows["M = 2, P = 1"]["state"] == "failed"
    assert "state.json: is damaged: not valid JSON" in rows["M = 2, P = 1"]["reason"]
    assert rows["M = 1, P = 2"]["state"] == "done"


def test_extending_some_arms_does_not_change_the_others(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="--only 'nothing': no arm"):
        manage.main(["extend", "--steps", "40", "--only", "nothing", "--runs", str(runs)])
    printed(capsys, "extend", "--steps", "40", "--only", "M = 2*", "--runs", str(runs))
    assert [(row["state"], row["steps"]) for row in status(capsys, runs)["runs"]] == [
        ("pending", 40),
        ("done", 24),
        ("done", 24),
    ]


def test_simultaneous_launches_lose_no_rows(tmp_path: Path) -> None:
    """Six at once, each with a seed of its own."""

    def ask(seed: int) -> None:
        request = GridRequest.from_arguments("hourglass_vs_patch", None, [seed], {}, tmp_path)
        whole = request.plan()
        request.write(whole, whole, replay=False)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(ask, range(6)))
    (newest,) = manifests.newest(tmp_path)
    assert newest.name == "hourglass_vs_patch-digits.6.json"
    seeds = [entry["seed"] for entry in json.loads(newest.read_text())["runs"]]
    assert sorted(seeds) == sorted([*range(6)] * 3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["status", "--grid", "hourglass"], "did you mean 'hourglass_vs_patch'?"),
        (["status", "--only", "nothing"], "--only 'nothing': no arm, level or run id matches"),
        (["retry"], "give --failed, --cancelled or both"),
        (["extend"], "required: --steps"),
        (["extend", "--steps", "0"], "0 is not at least 1"),
        (["sttus"], "invalid choice: 'sttus'"),
        ([], "required: COMMAND"),
    ],
)
def test_errors(words: list[str], message: str, launched: Path) -> None:
    command = [sys.executable, "ablations/manage.py", *words, *(["--runs", str(launched)] if words else [])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_a_folder_without_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no grid was launched here"):
        manage.main(["status", "--runs", str(tmp_path)])


def test_a_thousand_runs_within_two_seconds(launched: Path, tmp_path: Path) -> None:
    manifest = json.loads((launched / "grids" / "hourglass_vs_patch-digits.1.json").read_text())
    entry = manifest["runs"][0]
    for number in range(1000):
        shutil.copytree(
            launched / entry["run_id"], tmp_path / f"run-{number}", copy_function=_copy_for(f"run-{number}")
        )
    manifest["runs"] = [{**entry, "seed": number, "run_id": f"run-{number}"} for number in range(1000)]
    write_atomically(tmp_path / "grids" / "hourglass_vs_patch-digits.1.json", json.dumps(manifest).encode())
    command = [sys.executable, "ablations/manage.py", "status", "--runs", str(tmp_path)]
    shown = []
    assert processor_seconds(lambda: shown.append(subprocess.check_output(command, cwd=ROOT, text=True))) < 2
    assert shown[0].endswith("1000 runs: 1000 done\n")


def _copy_for(run_id: str) -> Callable[[str, str], None]:
    """What copies a run's files for the run of that id: links, but for the records, which name it."""

    def copy(source: str, target: str) -> None:
        if Path(source).name != "record.json":
            Path(target).hardlink_to(source)
        else:
            content = json.loads(Path(source).read_text()) | {"run_id": run_id, "sha256": ZEROS}
            Path(target).write_bytes(seal(json.dumps(content).encode()))

    return copy


@pytest.mark.parametrize("script", ["launch.py", "manage.py"])
def test_help_within_half_a_second_and_without_pydantic(script: str) -> None:
    code = (
        f"import runpy, sys\nsys.argv = ['{script}', '--help']\n"
        f"try: runpy.run_path('ablations/{script}', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'numpy', 'pandas', 'pydantic', 'rich', 'subprocess'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    command = [sys.executable, f"ablations/{script}", "--help"]
    assert processor_seconds(lambda: subprocess.check_call(command, cwd=ROOT, stdout=subprocess.DEVNULL)) < 0.5
