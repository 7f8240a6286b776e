"""Every error in a grid file is reported in one line that names file, key and what is allowed; nothing is written.

Each file of tests/bad_grids has one error. Its first line, `# error: this text | and this`, lists what the message must
contain.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ablations import launch
from diffussm.errors import exit_code
from tests.support.processor import processor_seconds

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "tests" / "bad_grids").glob("*.toml"))
PRODUCT = "product_of_three_axes_of_a_thousand_levels"
GOOD = (ROOT / "ablations" / "grids" / "direction.toml").read_text()


def expected(path: Path) -> list[str]:
    """The texts that the error line must contain, from the first line of the file."""
    header = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")[0].decode("ascii")
    return header.removeprefix("# error: ").split(" | ")


def error_line(stderr: str) -> str:
    """The single line on stderr, which has only printable characters."""
    assert stderr.startswith("error: ")
    assert stderr.endswith("\n")
    line = stderr[:-1]
    assert line.isprintable(), line
    return line


def refused(grid: str, runs: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """The error line of a launch of the grid, which must write nothing."""
    assert exit_code(lambda: launch.main(["--grid", grid, "--runs", str(runs), *options])) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert not runs.exists()
    return error_line(err)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_error_is_one_line(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line is the same whether the grid is planned or launched."""
    line = refused(str(path), tmp_path / "runs", capsys, "--dry-run")
    assert line.startswith(f"error: {path.name}: ")
    for part in expected(path):
        assert part in line
    assert refused(str(path), tmp_path / "runs", capsys) == line


def test_the_bad_grids_are_well_formed() -> None:
    """Each lists its expected message, and has a name of plain letters."""
    assert len(FILES) >= 60
    assert all(path.read_bytes().removeprefix(b"\xef\xbb\xbf").startswith(b"# error: ") for path in FILES)
    assert all(all(expected(path)) for path in FILES)
    assert all(re.fullmatch(r"[a-z0-9_-]+", path.stem) for path in FILES)


def assert_command_refuses(name: str, runs: Path) -> None:
    """Assert that the command refuses the grid, in one line with the expected texts."""
    path = ROOT / "tests" / "bad_grids" / f"{name}.toml"
    done = subprocess.run(
        [sys.executable, "ablations/launch.py", "--grid", str(path), "--runs", str(runs), "--dry-run"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert not runs.exists()
    line = error_line(done.stderr)
    assert all(part in line for part in [path.name, *expected(path)])


@pytest.mark.parametrize(
    "name", ["axis_name_with_an_escape_sequence", "file_is_not_utf_8", "key_appears_twice", "seeds_are_negative"]
)
def test_an_error_is_one_line_of_the_command(name: str, tmp_path: Path) -> None:
    assert_command_refuses(name, tmp_path / "runs")


def test_a_billion_combinations_are_refused_soon(tmp_path: Path) -> None:
    assert processor_seconds(lambda: assert_command_refuses(PRODUCT, tmp_path / "runs")) < 1.5


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("two words.toml", "'two words.toml'"),
        ("two\nlines.toml", r"'two\nlines.toml'"),
        ("two\ttabs.toml", r"'two\ttabs.toml'"),
        ("\x1b[31mred.toml", r"'\x1b[31mred.toml'"),
        ("lam\u202eot.toml", r"'lam\u202eot.toml'"),
        ("zero\u200bwidth.toml", r"'zero\u200bwidth.toml'"),
        ("größe.toml", r"'gr\xf6\xdfe.toml'"),
        ("a..b.toml", "'a..b.toml'"),
        ("...toml", "'...toml'"),
        ("-rf.toml", "'-rf.toml'"),
        ("it's.toml", '"it\'s.toml"'),
        ('a"b.toml', "'a\"b.toml'"),
        ("a|b.toml", "'a|b.toml'"),
        ("a\\b.toml", r"'a\\b.toml'"),
        (f"{'w' * 200}.toml", f"'{'w' * 80}...'"),
    ],
    ids=ascii,
)
def test_a_file_name_that_cannot_name_a_folder(
    name: str, shown: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is refused although its content is valid."""
    (tmp_path / name).write_text(GOOD)
    line = refused(str(tmp_path / name), tmp_path / "runs", capsys, "--dry-run")
    assert line.startswith(f"error: {shown}: a grid's file name has 1 to 80 letters, digits and _ - . only")


@pytest.mark.parametrize("name", ["missing.toml", "no\x1b[31m\nsuch.toml", f"{'w' * 300}.toml", "folder.toml", ".toml"])
def test_a_path_without_a_file(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "folder.toml").mkdir()
    path = str(tmp_path / name)
    problem = "it is a folder" if name == "folder.toml" else "there is no such file"
    line = refused(path, tmp_path / "runs", capsys, "--dry-run")
    assert line == f"error: --grid {path!r}: {problem}; allowed: the path of a .toml file, or a grid's name"


@pytest.mark.parametrize("name", ["directon", "", "..", "direc\ntion"])
def test_an_unknown_grid_name(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(name, tmp_path / "runs", capsys, "--dry-run")
    assert line.startswith(f"error: grid: unknown name {name!r}; ")
    assert "direction, equal_macs, guidance, hourglass_vs_patch" in line
