"""Preparing by the processes of torchrun or srun: the same bytes, and what is left when one of them ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from diffussm.data.preparing import build as preparing
from diffussm.data.preparing.encoding import EncodingOptions
from diffussm.data.preparing.prepare import prepare
from diffussm.data.preparing.recipe import ImageRecipe, Options
from diffussm.distributed.group import ProcessGroup
from diffussm.errors import exit_code
from diffussm.vae import autoencoder
from tests.data.preparing.test_prepare import content
from tests.support.ending import popen
from tests.support.evaluating import ROOT
from tests.support.known_vae import KnownNetwork, known_vae
from tests.support.processes import children, join_ranks, start_ranks
from tests.support.sources import class_folders
from tests.support.tiny_vae import tiny_vae
from tests.support.waiting import wait_for

LATENTS = {"flips": True, "batch": 2, "dtype": "float16"}
PER_SHARD = 3
FAIL, KILL, TERMINATE = "fail", "kill", "terminate"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Seventeen images, for six shards; one of them is broken."""
    folder = class_folders(tmp_path / "in", per_class=6)
    (folder / "ant" / "4.png").unlink()
    (folder / "bee" / "1.png").write_bytes(b"")
    return folder


@pytest.fixture
def vae(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(preparing, "LEAST_IMAGES", PER_SHARD)
    monkeypatch.setattr(preparing, "SHARDS", 6)
    return known_vae(tmp_path / "vae", monkeypatch)


def work(group: ProcessGroup, tmp: Path, skip: bool, at: str, end: str) -> None:
    """Prepare as the command does; a rank ends in this way when it reads that image."""
    preparing.LEAST_IMAGES, preparing.SHARDS = PER_SHARD, 6
    autoencoder._load = lambda _: KnownNetwork()
    image = ImageRecipe.image

    def ending(recipe: ImageRecipe, entry: Any) -> Any:
        if entry.name == at and end == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        if entry.name == at and end == TERMINATE:
            os.kill(os.getpid(), signal.SIGTERM)
        return image(recipe, entry)

    ImageRecipe.image = ending  # type: ignore[method-assign]
    sys.stderr = (tmp / f"stderr.{group.rank}").open("w", buffering=1)

    def main() -> int:
        given = EncodingOptions(tmp / "vae", **LATENTS)
        prepare(tmp / "in", tmp / "set", Options(image_size=8, skip_broken=skip), 1, given, group)
        return 0

    code = exit_code(main)
    sys.stderr.flush()
    if code:
        os._exit(code)


def start(count: int, tmp: Path, skip: bool = True, at: str = "", end: str = "") -> tuple[list[int | None], list[str]]:
    """Return exit codes and what was printed to stderr, of each rank."""
    codes = join_ranks(start_ranks(count, work, tmp, skip, at, end))
    return codes, [(tmp / f"stderr.{rank}").read_text() for rank in range(count)]


@pytest.fixture
def alone(source: Path, vae: Path, tmp_path: Path) -> dict[str, bytes]:
    """The files of the data set that one process makes."""
    given = EncodingOptions(vae, **LATENTS)
    prepare(source, tmp_path / "alone", Options(image_size=8, skip_broken=True), encoding=given)
    return content(tmp_path / "alone")


def test_two_ranks(alone: dict[str, bytes], tmp_path: Path) -> None:
    codes, printed = start(2, tmp_path)
    assert codes == [0, 0]
    assert content(tmp_path / "set") == alone
    assert printed[0].startswith("images 17 of 17")
    assert printed[1] == ""
    assert not (tmp_path / "set.partial").exists()


def test_what_is_wrong_at_one_is_reported_by_all(alone: dict[str, bytes], tmp_path: Path) -> None:
    codes, printed = start(2, tmp_path, skip=False)  # the broken image is in shard 2, of rank zero
    assert codes == [2, 2]
    for lines in printed:
        (error,) = [line for line in lines.splitlines() if line.startswith("error: ")]
        assert "bee/1.png: is empty; --skip-broken leaves out such images; " in error
        assert f"of 6 shards are finished and kept in {tmp_path}/set.partial" in error
    assert "Traceback" not in printed[0] + printed[1]
    assert not (tmp_path / "set").exists()
    assert start(3, tmp_path)[0] == [0, 0, 0]
    assert content(tmp_path / "set") == alone


def test_one_is_killed(alone: dict[str, bytes], tmp_path: Path) -> None:
    codes, printed = start(2, tmp_path, at="cat/4.png", end=KILL)  # of shard 5, the last of rank one
    assert codes == [2, -signal.SIGKILL]
    assert printed[0].splitlines()[-1] == (
        f"error: {tmp_path}/set: another process has ended; finished shards are kept in {tmp_path}/set.partial; the "
        "same command, by any number of processes, continues"
    )
    assert {path.name for path in (tmp_path / "set.partial" / "shards").glob("*.json")} >= {"00000.json", "00001.json"}
    assert start(1, tmp_path)[0] == [0]
    assert content(tmp_path / "set") == alone


def test_one_is_terminated(alone: dict[str, bytes], tmp_path: Path) -> None:
    codes, printed = start(2, tmp_path, at="cat/4.png", end=TERMINATE)
    assert codes == [2, 130]
    kept = f"{tmp_path}/set: finished shards are kept in {tmp_path}/set.partial; the same command continues\n"
    assert printed[1] == kept
    assert "another process has ended" in printed[0]
    assert start(2, tmp_path)[0] == [0, 0]
    assert content(tmp_path / "set") == alone


def test_nothing_stays_of_what_cannot_begin(source: Path, vae: Path, tmp_path: Path) -> None:
    for path in source.rglob("*.png"):
        path.write_bytes(b"")
    codes, printed = start(2, tmp_path, skip=False)
    assert codes == [2, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "stderr.0", "stderr.1", "vae"]
    assert all(lines.splitlines()[-1].startswith("error: ") for lines in printed)


def command(count: int, tmp: Path, out: str, *options: str) -> list[str]:
    """The command as `count` processes of torchrun, or as one."""
    launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={count}", "-m"] if count > 1 else []
    given = ["data", "prepare", tmp / "in", tmp / out, "--image-size", 16, "--vae", tmp / "vae", "--flips"]
    return [sys.executable, "-m", *launcher, "diffussm", *map(str, given), *options]


def run(*arguments: Any) -> "subprocess.Popen[str]":
    return popen(command(*arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def kill_after_a_shard(victim: int, tmp: Path) -> None:
    """Let two ranks prepare until there is one more finished shard, then kill this one; the other ends with a line."""

    def finished() -> int:
        return len(list((tmp / "killed.partial" / "shards").glob("*.json")))

    before, process = finished(), run(2, tmp, "killed")
    wait_for(lambda: finished() > before or process.poll() is not None, 120)
    os.kill(children(process.pid)[victim], signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "finished shards are kept" in err
    assert not (tmp / "killed").exists()


@pytest.mark.slow
def test_torchrun_and_processes(tmp_path: Path) -> None:
    """The whole folder by an AutoencoderKL of Diffusers: by one process, two of its own, two of torchrun; killed, and
    continued by another number."""
    class_folders(tmp_path / "in", per_class=300)
    tiny_vae(tmp_path / "vae")
    for arguments in ((1, tmp_path, "alone"), (1, tmp_path, "own", "--processes", "2"), (2, tmp_path, "ranks")):
        process = run(*arguments)
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
        assert out == f"{tmp_path}/{arguments[2]}\n"
        assert "advice" not in err.lower()
    expected = content(tmp_path / "alone")
    assert len([name for name in expected if name.startswith("latents-")]) == 4
    assert content(tmp_path / "own") == expected
    assert content(tmp_path / "ranks") == expected
    for victim in (0, 1):
        kill_after_a_shard(victim, tmp_path)
    process = run(1, tmp_path, "killed")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert content(tmp_path / "killed") == expected
