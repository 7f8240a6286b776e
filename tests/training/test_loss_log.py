"""The loss log of an attempt: rows appended and flushed to the disk, and no half of a row after an error."""

import errno
import os
from pathlib import Path

import pytest

from diffussm.errors import one_line
from diffussm.training.loss_log import LossLog


def fail(_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_rows_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "train-1.jsonl"
    with LossLog(path) as log:
        log.add({"step": 1})
        log.save()
        assert path.read_text() == '{"step": 1}\n'
        log.add({"step": 2})
        assert path.read_text() == '{"step": 1}\n'
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_what_is_not_saved_is_kept_and_the_file_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "train-1.jsonl"
    log = LossLog(path)
    for step in (1, 2):
        log.add({"step": step})
        with monkeypatch.context() as full:
            full.setattr(os, "fsync", fail)
            with pytest.raises(OSError, match="No space") as caught:
                log.save()
        assert one_line(caught.value) == f"{path}: No space left on device"
        assert path.exists() is (step == 2)
        log.save()
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_the_error_that_ended_the_training_is_the_one_to_raise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ValueError, match="odd"), LossLog(tmp_path / "log") as log:
        log.add({"step": 1})
        raise ValueError("odd")
    with pytest.raises(OSError, match="No space"), LossLog(tmp_path / "log") as log:
        log.add({"step": 1})
