"""What a reference file says of itself is checked where it is read, and shown in one line each."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.evaluating import Run, assert_error

SHAPE = {"channels": 1, "image_size": 8}


def file_with(path: Path, metadata: bytes, **arrays: np.ndarray) -> Path:
    np.savez(path, mu=np.zeros(4), sigma=np.eye(4), diffussm=np.frombuffer(metadata, dtype=np.uint8), **arrays)
    return path


def test_control_characters_and_long_texts_are_escaped_and_cut(tmp_path: Path, diffussm: Run) -> None:
    stated = {**SHAPE, "source": "a\x1b[2J\nsamples: 50000\r\x00\u202e", "no\nte": "x" * 3000, "skipped": {".\n": 3}}
    path = file_with(tmp_path / "a.npz", json.dumps(stated).encode(), **{"e\x1b": np.zeros(1)})
    code, out, _ = diffussm("reference", "show", path)
    assert code == 0
    assert all(character.isprintable() for character in out.replace("\n", ""))
    lines = out.splitlines()
    assert "  source: a\\x1b[2J\\nsamples: 50000\\r\\x00\\u202e" in lines
    assert f"  no\\nte: {'x' * 200}... (3,000 characters)" in lines
    assert any(line.startswith("  e\\x1b ") for line in lines)
    other = file_with(tmp_path / "b.npz", json.dumps({**SHAPE, "source": "b\x1b"}).encode())
    code, out, _ = diffussm("reference", "compare", path, other)
    assert code == 0
    assert "source: a\\x1b[2J" in out
    assert "\x1b" not in out


@pytest.mark.parametrize(
    "metadata",
    [
        json.dumps({**SHAPE, "samples": -5}),
        json.dumps({**SHAPE, "samples": 1e300}),
        json.dumps({**SHAPE, "samples": True}),
        json.dumps({**SHAPE, "samples": 10**400}),
        '{"channels": 1, "image_size": 8, "samples": ' + "9" * 5000 + "}",
        json.dumps({**SHAPE, "image_size": 0}),
        json.dumps({**SHAPE, "channels": "1"}),
        json.dumps({**SHAPE, "transform": ["none"]}),
        json.dumps({**SHAPE, "extractor_sha256": None}),
        "[" * 100_000,
        json.dumps({**SHAPE, "source": "x" * 1_000_000}),
    ],
    ids=range(11),
)
def test_what_cannot_be_is_refused(metadata: str, tmp_path: Path, diffussm: Run) -> None:
    path = file_with(tmp_path / "a.npz", metadata.encode())
    assert_error(diffussm("reference", "show", path), "its array diffussm, which describes it, cannot be read")


def test_an_error_that_quotes_a_file_is_one_printable_line(tmp_path: Path, diffussm: Run) -> None:
    np.savez(tmp_path / "a.npz", **{"x\x1b[2J": np.zeros(1)})
    assert_error(diffussm("reference", "show", tmp_path / "a.npz"), "neither arr_0 nor mu, but x\\x1b[2J")
