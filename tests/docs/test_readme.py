"""The README's commands run (as --help or --dry-run), its links lead somewhere, its tables are the generated ones."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import tests.support.tiny as tiny

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    "README.md",
    "docs/cost.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "slurm/README.md",
    "slurm/local_cluster/README.md",
]
README = (ROOT / "README.md").read_text()
A_SUITE = "bench/test_startup.py"  # which imports little


def commands() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", README, flags=re.M | re.S)
    return [re.split(r" +# ", line)[0] for block in blocks for line in block.splitlines() if line.strip()]


def harmless(command: str) -> list[str]:
    """The command in a form that shows it exists and takes these arguments, but makes nothing."""
    words = shlex.split(re.sub(r"^torchrun .*-m diffussm", "diffussm", command))
    if words[0] == "torchrun":
        return [sys.executable, "-m", "ablations.cell", "--help"]
    if words[0] == "make":
        return [*words, "--dry-run"]
    if words[0] == "pytest":
        return [sys.executable, "-m", *(re.sub("^bench/$", A_SUITE, word) for word in words), "--collect-only", "-q"]
    if words[0] == "diffussm":
        return [sys.executable, "-m", *words] if words[1] == "cost" else [sys.executable, "-m", *words[:2], "--help"]
    assert words[0] == "python", command
    if "--calibrate" in words:
        words += ["--only", "M = 2, P = 1"]  # which would measure all arms
    return [sys.executable, *words[1:], "--dry-run" if "launch.py" in words[1] else "--help"]


def test_the_users_three_commands_are_there() -> None:
    assert {
        "python ablations/launch.py --grid hourglass_vs_patch",
        "pytest bench/ --benchmark-only",
        "python reports/make_figures.py",
        "make demo",
        "make test",
    } <= set(commands())


@pytest.mark.parametrize("command", commands())
def test_command(command: str) -> None:
    if command.startswith(("git ", "cd ", "source ", ". ")):
        pytest.skip("not this project's")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    done = subprocess.run(harmless(command), cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def block(language: str) -> str:
    """The code of the section on a mixer of one's own."""
    section = README[README.index("## A mixer of your own") :]
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", section, flags=re.M | re.S)
    return found


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """A folder with the README's mixer and grid."""
    (tmp_path / "my_mixers.py").write_text(block("python"))
    (tmp_path / "my_grid.toml").write_text(block("toml"))
    return tmp_path


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False)


def test_the_mixer_passes_its_checks(example: Path) -> None:
    done = run(example, "-m", "diffussm", "check-mixer", "my_mixers:GatedLinearAttention")
    assert done.returncode == 0, done.stderr
    assert "states 41,216 MACs; 41,216 are counted, real products element by element left out" in done.stdout


def test_the_mixer_runs_beside_s4d_and_attention(example: Path) -> None:
    settings = [f"--set={key}={value}" for key, value in tiny.SETTINGS.items() if key != "model.state"]
    launch = [str(ROOT / "ablations" / "launch.py"), "--grid", "my_grid.toml", "--seeds", "1", *settings]
    planned = run(example, *launch, "--dry-run")
    assert re.search(r"mine .* [\d,]+ +[\d.]+ M +24 ", planned.stdout), planned.stdout + planned.stderr
    done = run(example, *launch)
    assert done.returncode == 0, done.stdout + done.stderr
    report = run(example, str(ROOT / "reports" / "make_figures.py"), "--out", "out")
    assert report.returncode == 0, report.stderr
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
    assert run(example, str(ROOT / "reports" / "make_figures.py"), "--out", "out").returncode == 0
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
    assert run(tmp_path, str(ROOT / "reports" / "make_figures.py"), "--grid", "ema", "--out", "out").returncode == 0
    results = (tmp_path / "out" / "ema" / "digits" / "results.md").read_text()
    assert "| 0.995 | 1 done |" in results
    assert "| 0.98 | 1 done |" in results


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links(document: str) -> None:
    text = (ROOT / document).read_text()
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if not link.startswith("https://"):
            assert (ROOT / document).parent.joinpath(link.split("#")[0]).exists(), link


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
