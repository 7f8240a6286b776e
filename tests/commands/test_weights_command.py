"""`diffussm weights`: which files there are, and whether they are the right ones, wherever they lie."""

from pathlib import Path

import pytest

from diffussm import cli
from diffussm.commands import weights as command
from diffussm.errors import UserError
from diffussm.metrics.features import weights_file
from diffussm.metrics.features.registry import EXTRACTORS
from diffussm.metrics.features.weights_file import ENVIRONMENT, WeightsFile
from diffussm.store.hashes import file_sha256

NAME = "network.pth"


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setenv("DIFFUSSM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def right(tmp_path: Path) -> Path:
    path = tmp_path / "there" / NAME
    path.parent.mkdir()
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def file(right: Path, monkeypatch: pytest.MonkeyPatch) -> WeightsFile:
    made = WeightsFile(NAME, file_sha256(right), "https://example.org/network.pth")
    monkeypatch.setattr(command, "CLEAN_FID", made)
    return made


def diffussm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["diffussm", "weights", *arguments])
    code = cli.main()
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_listing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = diffussm(monkeypatch, capsys)
    assert (code, err) == (0, "")
    for name, extractor in EXTRACTORS.items():
        assert f"{name}: {'verified' if extractor.weights.shipped else 'missing'}" in out
    for file in (weights_file.INCEPTION, weights_file.CLEAN_FID):
        assert all(words in out for words in (file.name, file.sha256, file.origin))


@pytest.mark.parametrize("place", ["flag folder", "flag file", "environment folder", "environment file", "renamed"])
def test_found_in_every_configured_place(
    place: str, file: WeightsFile, right: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if place == "renamed":
        right = right.rename(right.with_name("other.bin"))
    where = right.parent if place.endswith("folder") else right
    given = []
    if place.startswith("environment"):
        monkeypatch.setenv(ENVIRONMENT, str(where))
    else:
        given = ["--extractor-weights", str(where)]
    code, out, err = diffussm(monkeypatch, capsys, "clean-fid", *given)
    assert (code, out, err) == (0, f"clean-fid: verified, {right}\n", "")
    assert f"clean-fid: verified, {right}" in diffussm(monkeypatch, capsys, *given)[1]


def test_the_flag_goes_before_the_environment_which_is_looked_at_next(
    file: WeightsFile, right: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = tmp_path / "second" / NAME
    second.parent.mkdir()
    second.write_bytes(b"weights")
    monkeypatch.setenv(ENVIRONMENT, str(second))
    assert file.path(str(right.parent)) == right
    right.unlink()
    assert file.path(str(right.parent)) == second


def test_the_working_folder(file: WeightsFile, right: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(right.parent)
    assert file.missing_requirement(".") == ""
    right.unlink()
    assert "network.pth (not in .)" in file.missing_requirement(".")


def test_a_folder_is_not_looked_for_beside_itself(file: WeightsFile, right: Path) -> None:
    empty = right.parent / "empty"
    empty.mkdir()
    assert file.path(str(empty)) is None
    assert file.path(str(right.with_name("no such file"))) is None


def test_other_weights(
    file: WeightsFile, right: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right.write_bytes(b"something else")
    given = ["--extractor-weights", str(right.parent)]
    code, out, err = diffussm(monkeypatch, capsys, "clean-fid", *given)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: clean-fid: {right} has sha256")
    assert file.sha256[:12] in err
    assert file_sha256(right)[:12] in err
    assert err.count("\n") == 1
    assert "clean-fid: missing" in diffussm(monkeypatch, capsys, *given)[1]
    with pytest.raises(UserError, match="expected"):
        file.read(str(right))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "inception-v3-compat",
            "weights-inception-2015-12-05-6726825d.pth not found; download it from https://github.com/toshas",
        ),
        ("inception-v3", "did you mean 'inception-v3-compat'?"),
    ],
)
def test_by_name(name: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = diffussm(monkeypatch, capsys, name)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


def test_shipped_ones_are_verified_whatever_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = diffussm(monkeypatch, capsys, "digits-cnn", "--extractor-weights", str(tmp_path / "nowhere"))
    assert code == 0
    assert out.startswith("digits-cnn: verified, ")
