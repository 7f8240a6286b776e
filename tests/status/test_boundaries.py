"""`--runs` and `--out` are boundaries: whatever stored files name, nothing outside is written or deleted."""

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ablations import manage
from ablations.slurm.submissions import Submission
from diffussm.errors import UserError
from diffussm.store.rundir import RunDir
from diffussm.store.writing import write_atomically
from reports import make_figures
from tests.support import synthetic_bench

FIXTURE = Path(__file__).parents[1] / "fixtures" / "run_of_26dc89b" / "runs"
COMMANDS = (
    ["status"],
    ["cancel"],
    ["retry", "--failed", "--cancelled"],
    ["gc", "--yes"],
    ["gc", "--yes", "--unlisted"],
)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """The folder of the runs, and beside it a run with all that gc deletes of one."""
    runs = shutil.copytree(FIXTURE, tmp_path / "runs")
    run = shutil.copytree(one(runs).path, tmp_path / "outside")
    for step in (1, 2):
        write_atomically(run / "checkpoints" / f"00000000{step}-1.pt", b"")
    (run / "checkpoints" / ".1.pt.0.tmp").touch()
    write_atomically(run / "replay" / "000000001-1.pt", b"")
    return runs


def one(runs: Path) -> RunDir:
    return RunDir(next(runs.glob("digits-*")))


def outside(runs: Path) -> dict[str, Any]:
    """Every file beside the folder of the runs, with its content and mode."""
    files = [path for path in runs.parent.rglob("*") if not path.is_relative_to(runs)]
    return {str(path): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"") for path in files}


def change(path: Path, **fields: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def command(*words: str) -> None:
    """A command that may refuse what it finds."""
    manage._warn.cache_clear()
    with contextlib.suppress(UserError):
        manage.main(list(words))


@pytest.mark.parametrize("name", ["..", "../outside", "."])
def test_a_run_id_of_a_manifest(name: str, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (manifest,) = (runs / "grids").glob("*.json")
    entries = json.loads(manifest.read_text())["runs"]
    change(manifest, runs=[entry | {"run_id": name} for entry in entries])
    before = outside(runs)
    for words in COMMANDS:
        command(*words, "--runs", str(runs))
    assert capsys.readouterr().out == ""
    with pytest.raises(UserError, match=r"is damaged: runs\[0\].run_id = "):
        make_figures.main(["--runs", str(runs), "--out", str(runs / "out")])
    assert outside(runs) == before
    assert one(runs).path.exists()


@pytest.mark.parametrize("field", ["grid", "base"])
def test_a_name_of_a_report(field: str, runs: Path) -> None:
    (manifest,) = (runs / "grids").glob("*.json")
    change(manifest, **{field: "../../outside"})
    before = outside(runs)
    with pytest.raises(
        UserError, match=f"is damaged: {field} = '../../outside': allowed: the name of a file or folder"
    ):
        make_figures.main(["--runs", str(runs), "--out", str(runs / "out")])
    assert outside(runs) == before


def test_the_scale_of_a_stored_benchmark(runs: Path) -> None:
    synthetic_bench.write(runs / "bench", synthetic_bench.mixers(), scale="../../../outside/x")
    before = outside(runs)
    make_figures.main(["--runs", str(runs), "--out", str(runs / "out")])
    assert outside(runs) == before
    assert "has a scale after which no folder can be named" in (runs / "out" / "bench" / "bench.md").read_text()


def test_the_runs_of_a_submission(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    submission = Submission(job="7", kind="train", runs=(one(runs).run_id,), code="0123456789ab")
    submission.write(runs)
    change(runs / "slurm" / "7.json", runs=["../outside"])
    before = outside(runs)
    for words in COMMANDS:
        command(*words, "--runs", str(runs))
    assert "slurm/7.json: is damaged: runs[0] = '../outside'" in capsys.readouterr().err
    assert outside(runs) == before


@pytest.mark.parametrize("name", ["checkpoints", "replay", "code/0123456789ab", "digits-unlisted", ""])
def test_links_lead_no_deletion_out(name: str, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A link in the place of a folder of a run, of a copy of the code, of a run of no grid, and of a run of a grid."""
    inside = runs / name if name.startswith(("code", "digits")) else one(runs).path / name
    target = runs.parent / "outside" / (name if name in ("checkpoints", "replay") else "")
    if inside.exists():
        shutil.rmtree(inside)
    inside.parent.mkdir(exist_ok=True)
    inside.symlink_to(target)
    before = outside(runs)
    command("gc", "--yes", "--unlisted", "--runs", str(runs))
    assert outside(runs) == before
    assert inside.is_symlink()
    if not name.startswith("code"):  # which are no copies
        assert f"leads out of {runs}" in capsys.readouterr().err


def test_runs_may_be_a_link_itself(runs: Path) -> None:
    write_atomically(one(runs).checkpoint(1, 1), b"")
    (runs.parent / "way").symlink_to(runs)
    command("gc", "--yes", "--runs", str(runs.parent / "way"))
    assert not one(runs).checkpoint(1, 1).exists()
