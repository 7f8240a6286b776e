"""Files of weights and state: readable by other programs, and refused if a single bit of them has changed."""

import hashlib
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from diffussm.models.stored import read_state, read_weights, read_weights_of, write_state, write_weights
from diffussm.store.integrity.digest import DIGITS, ZEROS
from diffussm.store.integrity.stamp import DamagedFile, Stamp
from diffussm.timing.memory import peak_memory
from tests.support import damage, former_files

STAMP = Stamp(run_id="a-run", step=24, kind="ema")
WEIGHTS = {
    "b": torch.arange(6000.0).reshape(60, 100),
    "scalar": torch.tensor(2.5),
    "half": torch.tensor([1.5, -2.0, 3.0], dtype=torch.bfloat16),
    "none": torch.empty(0, 3),
    "order": torch.arange(5),
    "mask": torch.tensor([True, False]),
}
STATE = {"step": 24, "model": WEIGHTS, "optimiser": {"state": {0: {"step": torch.tensor(24.0)}}}}
Read = Callable[[Path], Any]


@pytest.fixture(params=["weights", "state"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, Read]]:
    """A file, and what reads it."""
    path = tmp_path / request.param
    if request.param == "weights":
        write_weights(path, WEIGHTS, STAMP)
        yield path, read_weights
    else:
        write_state(path, STATE, STAMP)
        yield path, read_state


def same(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == WEIGHTS.keys() and all(
        found[name].dtype == value.dtype and torch.equal(found[name], value) for name, value in WEIGHTS.items()
    )


def test_plain_readers_read_them(tmp_path: Path) -> None:
    write_weights(tmp_path / "w.safetensors", WEIGHTS, STAMP)
    assert same(load_file(tmp_path / "w.safetensors"))
    with safe_open(tmp_path / "w.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "pt"
    assert (metadata["diffussm.format_version"], metadata["diffussm.run_id"], metadata["diffussm.step"]) == (
        "2", "a-run", "24",
    )  # fmt: skip
    write_state(tmp_path / "s.pt", STATE, STAMP)
    content = torch.load(tmp_path / "s.pt", weights_only=True)
    assert content["step"] == 24
    assert same(content["model"])


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_weights(tmp_path / "w", WEIGHTS, STAMP)
    weights = read_weights_of(tmp_path / "w", "a-run", 24, "ema")
    assert same(weights.tensors)
    assert weights.origin.stamp is not None
    assert weights.origin.stamp.step == 24
    write_state(tmp_path / "s", STATE, STAMP)
    content, origin = read_state(tmp_path / "s")
    assert same(content["model"])
    assert origin.stamp is not None
    assert (origin.stamp.run_id, origin.stamp.kind) == ("a-run", "ema")


def test_the_digest_is_that_of_the_file_with_zeros_in_its_place(stored: tuple[Path, Read]) -> None:
    path, read = stored
    content, origin = path.read_bytes(), read(path)[1]
    digest = origin.stamp.sha256.encode()
    assert content.count(digest) == 1
    assert hashlib.sha256(content.replace(digest, ZEROS.encode())).hexdigest().encode() == digest
    assert origin.sha256 == hashlib.sha256(content).hexdigest()
    assert len(digest) == DIGITS


def test_tensors_above_a_megabyte(tmp_path: Path) -> None:
    """They are hashed in a thread, in pieces."""
    large = {f"w{i}": torch.randn(600, 1000) for i in range(12)}
    write_weights(tmp_path / "w", large, STAMP)
    write_state(tmp_path / "s", {"model": large}, STAMP)
    for found in (read_weights(tmp_path / "w").tensors, read_state(tmp_path / "s")[0]["model"]):
        assert all(torch.equal(found[name], value) for name, value in large.items())
    for path, read in ((tmp_path / "w", read_weights), (tmp_path / "s", read_state)):
        damage.flip(path, 8 * 25_000_000 + 3)
        with pytest.raises(DamagedFile, match="does not have the SHA-256 that it states"):
            read(path)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_no_copy_of_a_state_is_made(tmp_path: Path) -> None:
    """Neither to write it nor to read it: what is read is the file, mapped."""
    state, path = {f"w{i}": torch.full((1 << 20,), float(i)) for i in range(32)}, tmp_path / "s"
    write_state(path, {"w": torch.ones(1 << 20)}, STAMP)  # what torch.save needs at its first call
    peak = peak_memory(lambda: write_state(path, state, STAMP))
    assert peak is not None
    assert peak < 40 << 20 < 128 << 20 < path.stat().st_size
    content, _ = read_state(path)
    assert str(path) in Path("/proc/self/maps").read_text()
    assert all(torch.equal(content[name], value) for name, value in state.items())
    content["w1"].zero_()  # of this process's memory alone
    assert torch.equal(read_state(path)[0]["w1"], state["w1"])


def test_one_bit_anywhere(stored: tuple[Path, Read]) -> None:
    """At the beginning and the end, where headers are, a bit of every eighth byte; between them, bits at random."""
    path, read = stored
    whole = path.read_bytes()
    count = 8 * len(whole)
    generator = random.Random(0)
    bits = [8 * byte + generator.randrange(8) for byte in (*range(0, 1000, 8), *range(-700, 0, 8))]
    bits += [generator.randrange(count) for _ in range(30)]
    assert damage.unnoticed(path, bits, lambda: read(path), DamagedFile) == []
    assert read(path)


@pytest.mark.parametrize(
    "hurt",
    [
        lambda path: damage.zero(path, 8000),
        lambda path: damage.zero(path, 0, 8),
        lambda path: damage.cut(path, 1),
        lambda path: damage.cut(path, 5000),
        lambda path: path.write_bytes(path.read_bytes() + b"\0"),
        *[lambda path, how=how: damage.corrupt(path, how) for how in damage.EVERY_WAY],
    ],
)
def test_other_damage(hurt: Callable[[Path], None], stored: tuple[Path, Read]) -> None:
    path, read = stored
    hurt(path)
    with pytest.raises(DamagedFile, match=f"^{path}: is damaged: "):
        read(path)


def test_no_file_is_no_damage(tmp_path: Path) -> None:
    for read in (read_weights, read_state):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("of", "what"),
    [
        (("other", 24, "ema"), "holds ema of step 24 of run a-run, but its place is that of ema of step 24 of run oth"),
        (("a-run", 16, "ema"), "but its place is that of ema of step 16 of run a-run"),
        (("a-run", 24, "raw"), "but its place is that of raw of step 24 of run a-run"),
    ],
)
def test_another_place(of: tuple[str, int, str], what: str, tmp_path: Path) -> None:
    write_weights(tmp_path / "w", WEIGHTS, STAMP)
    with pytest.raises(DamagedFile, match=what):
        read_weights_of(tmp_path / "w", *of)


def test_files_of_before_are_read_and_cannot_be_verified(stored: tuple[Path, Read]) -> None:
    path, read = stored
    (former_files.weights if path.name == "weights" else former_files.checkpoint)(path)
    content, origin = read(path)
    assert same(content["model"] if path.name == "state" else content)
    assert origin.stamp is None
    assert origin.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"sha256": None}, "its metadata has no sha256"),
        ({"format_version": "3"}, "has format version 3; this version of diffussm reads 2"),
        ({"format_version": None}, "its metadata has no format_version"),
        ({"step": "many"}, "no valid format_version and step"),
        ({"sha256": "0" * 63}, "its metadata: sha256 = "),
        ({}, "does not have the SHA-256"),
    ],
)
def test_the_present_version_without_a_digest_is_refused(change: dict[str, str], what: str, tmp_path: Path) -> None:
    fields = STAMP.metadata() | {f"diffussm.{name}": text for name, text in change.items()}
    save_file(WEIGHTS, tmp_path / "w", metadata={name: text for name, text in fields.items() if text is not None})
    with pytest.raises(DamagedFile, match=what):
        read_weights(tmp_path / "w")
