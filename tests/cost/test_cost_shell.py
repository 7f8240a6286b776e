"""`diffussm cost` in a shell: what people see, its mistakes, and how little it needs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tests.support.tiny as tiny
from diffussm import cli
from diffussm.cost.command import Gpus, report
from tests.support.costs import WITH_UNCOUNTED_OPERATOR, WITHOUT_MACS, rows

PIPE = "a named pipe"  # instead of content


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's."""
    return tiny.run_folder(tmp_path).path


# For people


def test_the_table_says_the_same_in_short() -> None:
    shown = report(["DiT-XL/2"], ("256",), {}, True, False, False).splitlines()
    assert shown[0].split()[:5] == ["model", "pixels", "L", "parameters", "MACs/call"]
    assert shown[2].split()[:7] == ["DiT-XL/2", "256", "256", "674.83", "M", "118.62", "G"]
    assert shown[4].startswith("MACs: multiply-adds counted once")
    assert "DiT-XL/2 at 256" in shown
    assert [line.split()[0] for line in shown if line.startswith("block.")] == [
        "block.adaLN_modulation",
        "block.attn.qkv",
        "block.attn",
        "block.attn.proj",
        "block.mlp.fc1",
        "block.mlp.fc2",
    ]


def test_the_audit_is_a_table_too() -> None:
    shown = report(["DiT-S/8"], ("256",), {"model.depth": 1}, False, True, False).splitlines()
    assert shown[-1].split()[-4:] == ["+0.0000", "%", "+0.0000", "%"]


# Mistakes


def error_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """Return the error message, which is one line."""
    monkeypatch.setattr("sys.argv", ["diffussm", "cost", *arguments])
    assert cli.main() == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    return printed.err.removeprefix("error: ")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "give either a model or --all"),
        (["DiT-S/8", "--all"], "give either a model or --all"),
        (["DiffuSM-XL"], "model: unknown name 'DiffuSM-XL'; did you mean 'DiffuSSM-XL'? valid: DiT-B/2"),
        (["DiT-XXL/2"], "did you mean 'DiT-XL/2'?"),
        (["digit"], "did you mean 'digits'?"),
        (["DiT-XL/3"], "model.patch: 3 does not divide image_size = 32"),
        (["DiT-S/8", "--resolution", "72"], "model.patch: 8 does not divide image_size = 9"),
        (["DiffuSSM-XL/M3"], "model.hourglass: 3 does not divide the 1024 tokens"),
        (["DiffuSSM-XL/M0"], "model: unknown name 'DiffuSSM-XL/M0'"),
        (["DiT-S/2", "--set", "model.patch=4"], "--set model.patch: the name DiT-S/2 determines it already"),
        (["DiT-S/8", "--resolution", "x"], "--resolution x: expected pixels per side, as in 256 for latents or 128px"),
        (["DiT-S/8", "--resolution", "0"], "--resolution 0: expected pixels per side"),
        (["DiT-S/8", "--resolution", "100"], "--resolution 100: must be a multiple of 8 for latents"),
        (["DiT-S/8", "--set", "model.depth"], "--set model.depth: give it as section.field=value"),
        (["DiT-S/8", "--set", "model.dept=1"], "unknown name 'model.dept'; did you mean 'model.depth'?"),
        (["DiT-S/8", "--set", "model.depth=none"], "model.depth = 'none': allowed: a whole number"),
        (["DiT-S/8", "--set", "model.state=2"], "model.state: not used with model.kind = dit; remove it"),
        (["DiT-S/8", "--set", "model.image_size=8"], "--set model.image_size: use --resolution instead"),
        (["DiT-S/8", "--data", "set"], "--data: not used: DiT-S/8 is counted without data"),
        (["DiT-S/8", "--set", "data.flip=true"], "--set data.flip: not used: DiT-S/8 is counted without data"),
        (["digits", "--resolution", "16px", "--set", "model.image_size=8"], "--set model.image_size: use --resolution"),
        (["digits", "--set", "model.mixer=no_such:Mixer"], "No module named 'no_such'"),
        (
            ["digits", "--set", WITHOUT_MACS, "--audit"],
            "WithoutMacs' states no MACs, so there is nothing to compare with",
        ),
        (["digits", "--set", WITH_UNCOUNTED_OPERATOR, "--audit"], "--audit: no handle counts aten::fft_fft2"),
        (["DiT-S/8", "--gpus", "2"], "--gpus, --gpu-memory: need --memory"),
        (["DiT-S/8", "--gpu-memory", "24"], "--gpus, --gpu-memory: need --memory"),
        (["digits", "--per-blok"], "No such option: --per-blok"),
        (["tests"], "tests: not a run folder (no config.json)"),
    ],
)
def test_mistakes_are_one_line(
    given: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    assert words in error_line(capsys, monkeypatch, *given)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", "{", "not valid JSON"),
        ("a.toml", "model = ", "not valid TOML"),
        ("a.json", "\xff", "not valid JSON"),
        ("a.json", "[1]", "not a config: expected its sections"),
        ("a.json", '{"config": 3}', "not a config: expected its sections"),
        ("a.json", '{"model": 3}', "model = 3: allowed: a table"),
        ("a.json", '{"model": {"width": 6}}', "model.width = 6: allowed: a multiple of 4"),
        ("a.json", '{"modle": {}}', "unknown name 'modle'"),
        ("a.toml", 'size = "S"', "size = S: it has no table of sizes"),
        ("a.toml", PIPE, "not a regular file"),
        ("a.json", PIPE, "not a regular file"),
    ],
)
def test_mistakes_in_a_file_name_it(
    name: str,
    content: str,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if content == PIPE:
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).write_text(content, encoding="latin-1")
    for more in ([], ["--set", "model.depth=2"]):
        message = error_line(capsys, monkeypatch, str(tmp_path / name), *more)
        assert message.startswith(str(tmp_path / name))
        assert words in message


def test_what_is_not_a_base_has_no_sizes(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "--set size: only bases have sizes" in error_line(capsys, monkeypatch, str(folder), "--set", "size=S")


# As a process

MEASURED = """
import resource, subprocess, sys
subprocess.run([sys.executable, "-m", "diffussm", "cost", *sys.argv[1:]], check=True, stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""  # a small process between: one forked from a large one counts the large one's memory as its own
WATCHED = """
import sys
from diffussm import cli
sys.argv = ["diffussm", "cost", *sys.argv[1:]]
assert cli.main() == 0
sys.exit(f"loaded {loaded}" if (loaded := {"torch", "numpy", "pandas"} & sys.modules.keys()) else 0)
"""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    return subprocess.run([sys.executable, *arguments], cwd=root, capture_output=True, text=True, check=False)


def test_on_the_command_line() -> None:
    given = ["DiT-S/8", "--set", "model.depth=1", "--resolution", "256", "--resolution", "128px", "--per-block"]
    done = python("-m", "diffussm", "cost", *given, "--memory", "--gpus", "2", "--json")
    assert done.returncode == 0, done.stderr
    resolutions, gpus = ("256", "128px"), Gpus(2, 80)
    assert json.loads(done.stdout) == rows(
        "DiT-S/8", "model.depth=1", resolutions=resolutions, per_block=True, gpus=gpus
    )
    assert done.stderr == ""


@pytest.mark.parametrize("given", [["DiffuSSM-XL", "--per-block"], ["digits", "--json"], ["--all", "--memory"]])
def test_no_torch(given: list[str]) -> None:
    done = python("-c", WATCHED, *given)
    assert done.returncode == 0, done.stderr


def test_no_torch_for_a_runs_folder(folder: Path) -> None:
    done = python("-c", WATCHED, str(folder))
    assert done.returncode == 0, done.stderr


def test_all_named_models_take_under_2_seconds() -> None:
    seconds, _ = map(float, python("-c", MEASURED, "--all").stdout.split())
    assert seconds < 2


def test_the_largest_takes_under_200_megabytes() -> None:
    """Its weights alone would take 2.8 gigabytes."""
    _, resident = map(float, python("-c", MEASURED, "DiffuSSM-XL").stdout.split())
    assert 1e6 < resident < 200e6
