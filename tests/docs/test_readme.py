"""The examples in the pages work as they are printed, and the README's table is the generated one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import tests.support.tiny as tiny
from reports import make_figures
from tests.support import forked

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def block(language: str) -> str:
    """The code of the page on a mixer of one's own."""
    page = (ROOT / "docs" / "mixers.md").read_text()
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", page, flags=re.M | re.S)
    return found


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """A folder with the mixer and the grid of docs/mixers.md."""
    (tmp_path / "my_mixers.py").write_text(block("python"))
    (tmp_path / "my_grid.toml").write_text(block("toml"))
    return tmp_path


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return forked.run([sys.executable, *command], cwd=folder)


def report(folder: Path) -> None:
    """As `python reports/make_figures.py --out out` there."""
    assert make_figures.main(["--runs", str(folder / "runs"), "--out", str(folder / "out")]) == 0


def test_the_mixer_passes_its_checks(example: Path) -> None:
    done = run(example, "-m", "diffussm", "check-mixer", "my_mixers:GatedLinearAttention")
    assert done.returncode == 0, done.stderr
    assert "states 41,216 MACs; 41,216 are counted, excluding element-wise products of real numbers" in done.stdout


def test_the_mixer_runs_beside_s4d_and_attention(example: Path) -> None:
    settings = [f"--set={key}={value}" for key, value in tiny.SETTINGS.items() if key != "model.state"]
    launch = [str(ROOT / "ablations" / "launch.py"), "--grid", "my_grid.toml", "--seeds", "1", *settings]
    planned = run(example, *launch, "--dry-run")
    assert re.search(r"mine .* [\d,]+ +[\d.]+ M +24 ", planned.stdout), planned.stdout + planned.stderr
    done = run(example, *launch)
    assert done.returncode == 0, done.stdout + done.stderr
    report(example)
    results = (example / "out" / "my_grid" / "digits" / "results.md").read_text()
    assert re.search(r"\| mine \| 1 done \| [\d,]+ \| [\d.]+ M \|", results), results


@pytest.mark.slow
def test_a_mixer_without_macs_is_unknown_in_plans_and_tables(example: Path) -> None:
    silent = (example / "my_mixers.py").read_text().replace("def macs(", "def other(")
    (example / "silent_mixers.py").write_text(silent)
    text = (example / "my_grid.toml").read_text().replace("my_mixers", "silent_mixers")
    (example / "my_grid.toml").write_text(text)
    settings = [f"--set={key}={value}" for key, value in tiny.SETTINGS.items() if key != "model.state"]
    launch = [str(ROOT / "ablations" / "launch.py"), "--grid", "my_grid.toml", "--seeds", "1", *settings]
    assert " unknown " in run(example, *launch, "--dry-run").stdout
    assert run(example, *launch, "--only", "mine").returncode == 0
    report(example)
    assert "| unknown |" in (example / "out" / "my_grid" / "digits" / "results.md").read_text()


def test_the_axis_of_contributing_is_one_file(tmp_path: Path) -> None:
    """A stranger adds an axis over training.ema: nothing but the TOML that CONTRIBUTING shows."""
    (shown,) = re.findall(r"^```toml\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.M | re.S)
    (tmp_path / "ema.toml").write_text(shown)
    settings = [f"--set={key}={value}" for key, value in tiny.SETTINGS.items()]
    launch = [
        str(ROOT / "ablations" / "launch.py"),
        "--grid",
        "ema.toml",
        "--seeds",
        "1",
        "--executor",
        "debug",
        *settings,
    ]
    done = run(tmp_path, *launch)
    assert done.returncode == 0, done.stderr
    report(tmp_path)
    results = (tmp_path / "out" / "ema" / "digits" / "results.md").read_text()
    assert "| 0.995 | 1 done |" in results
    assert "| 0.98 | 1 done |" in results


def test_the_table_is_the_generated_one() -> None:
    generated = (ROOT / "reports" / "example" / "results.md").read_text()
    (costs, *_) = (block for block in generated.split("\n\n") if block.startswith("|"))
    assert costs in README


def test_the_lock_holds_pins_and_hashes_alone() -> None:
    """Where packages come from is the user's choice: no address and no option but hashes."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    assert not [line for line in lines if "://" in line]
    assert not [line for line in lines if line.strip().startswith("-") and not line.strip().startswith("--hash=")]
    assert sum("--hash=sha256:" in line for line in lines) > 100
