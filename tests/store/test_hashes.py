"""Hashes of files: those of the bytes that are there now."""

import hashlib
import os
from pathlib import Path

import pytest

from diffussm.errors import UserError
from diffussm.store.hashes import file_sha256


def test_file_sha256(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    assert file_sha256(path) == hashlib.sha256(b"one").hexdigest()
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert file_sha256(path) == hashlib.sha256(b"one").hexdigest()
    monkeypatch.undo()
    path.write_bytes(b"two")
    os.utime(path, ns=(0, 0))
    assert file_sha256(path) == hashlib.sha256(b"two").hexdigest()


def test_absent(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        file_sha256(tmp_path / "a.npz")
