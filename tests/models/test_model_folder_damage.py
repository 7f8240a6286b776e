"""Folders of saved models: refused if a bit of them changed; weights of other programs are named by their hash."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tests.support.tiny as tiny
from diffussm.cli import main
from diffussm.config import resolve
from diffussm.errors import UserError
from diffussm.models.build import build_model
from diffussm.models.pretrained import from_pretrained, save_pretrained
from diffussm.models.stored import read_weights
from diffussm.store.integrity.stamp import DamagedFile
from diffussm.training.trainer import Trainer
from tests.support import damage, former_files

CONFIG, WEIGHTS = "config.json", "model.safetensors"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_pretrained(build_model(tiny.config()), tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize(("name", "step"), [(CONFIG, 12), (WEIGHTS, 900)])
def test_one_bit_anywhere(name: str, step: int, saved: Path) -> None:
    path = saved / name
    bits = [8 * byte + byte // step % 8 for byte in range(0, path.stat().st_size, step)]
    assert damage.unnoticed(path, bits, lambda: from_pretrained(saved), UserError) == []
    assert from_pretrained(saved)


@pytest.mark.parametrize(
    ("hurt", "what"),
    [
        (lambda path: damage.zero(path, 4096), "does not have the SHA-256"),
        (lambda path: damage.cut(path, 1000), "does not have the SHA-256"),
        (lambda path: damage.corrupt(path, "a folder"), "Is a directory"),
    ],
)
def test_damaged_weights(hurt: Callable[[Path], None], what: str, saved: Path) -> None:
    hurt(saved / WEIGHTS)
    with pytest.raises(DamagedFile, match=what):
        from_pretrained(saved)
    assert list(saved.glob("*.damaged")) == []  # the user's own folder


def test_weights_of_another_model(saved: Path, tmp_path: Path) -> None:
    save_pretrained(build_model(tiny.config(seed=1)), tmp_path / "other")
    shutil.copy(tmp_path / "other" / WEIGHTS, saved / WEIGHTS)
    with pytest.raises(DamagedFile, match=r"model\.safetensors: is damaged: not the weights that config\.json names"):
        from_pretrained(saved)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"sha256": None}, "or it states none"),
        ({"format_version": None}, "has format version None"),
        ({"format_version": 3}, "has format version 3; this version of diffussm reads 2"),
        ({"outputs": 1}, "does not have the SHA-256"),
    ],
)
def test_a_config_without_its_digest(change: dict[str, Any], what: str, saved: Path) -> None:
    content = {**json.loads((saved / CONFIG).read_text()), **change}
    (saved / CONFIG).write_text(json.dumps({name: value for name, value in content.items() if value is not None}))
    with pytest.raises(DamagedFile, match=what):
        from_pretrained(saved)


def test_a_folder_of_before_is_read(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = from_pretrained(saved).state_dict()
    assert capsys.readouterr().err == ""
    former_files.model_folder(saved)
    assert all(torch.equal(value, expected[name]) for name, value in from_pretrained(saved).state_dict().items())
    assert f"{saved}: was written by an earlier version, without a digest" in capsys.readouterr().err


def test_a_converted_run_names_run_and_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny.run_folder(tmp_path / "runs")
    trainer = Trainer(run.config(), "auto")
    trainer.step()
    trainer.state.save_weights(run, "raw")
    monkeypatch.setattr("sys.argv", ["diffussm", "convert", str(run.path), str(tmp_path / "out"), "--weights", "raw"])
    assert main() == 0
    content = json.loads((tmp_path / "out" / CONFIG).read_text())
    stamp = read_weights(tmp_path / "out" / WEIGHTS).origin.stamp
    assert stamp is not None
    assert (content["run_id"], content["step"], content["kind"]) == (run.run_id, 1, "raw")
    assert (stamp.run_id, stamp.step, stamp.kind) == (run.run_id, 1, "raw")
    assert content["weights_sha256"] == stamp.sha256


def test_the_hash_of_another_programs_file_is_printed_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = resolve("digits", {"model.kind": "dit", "model.patch": 2, "model.depth": 1})
    path = tmp_path / "dit.pt"
    torch.save(build_model(config).state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    heads = str(config.model.heads)
    monkeypatch.setattr("sys.argv", ["diffussm", "convert", str(path), str(tmp_path / "out"), "--heads", heads])
    assert main() == 0
    assert f"{path}: sha256 {digest}\n" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / CONFIG).read_text())["source"] == {"file": str(path), "sha256": digest}
    model = from_pretrained(tmp_path / "out")
    save_pretrained(model, tmp_path / "again")
    assert json.loads((tmp_path / "again" / CONFIG).read_text())["source"]["sha256"] == digest
