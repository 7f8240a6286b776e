"""`manage.py doctor` checks what a grid needs, and reports what is missing or damaged."""

import dataclasses
import json
from pathlib import Path

import pytest

from ablations import manage
from ablations.status import doctor
from tests.support.managing import printed


def test_doctor(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checks = json.loads(printed(capsys, "doctor", "--json", "--runs", str(runs)))
    assert {check["what"] for check in checks} >= {
        "folder",
        "hard links",
        "disk",
        "python",
        "packages",
        "weights",
        "data",
    }
    assert {check["verdict"] for check in checks} == {"ok", "warning"}  # ImageNet is not here
    of_grid = printed(capsys, "doctor", "--grid", "hourglass_vs_patch", "--runs", str(runs))
    assert "digits: 1,797 images" in of_grid
    assert "imagenet" not in of_grid


def test_doctor_reports_problems(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = next(iter(doctor.EXTRACTORS.values()))
    damaged = runs / "damaged.safetensors"
    damaged.write_bytes(facts.weights.read()[:100])
    wrong = dataclasses.replace(facts.weights, shipped=damaged)
    monkeypatch.setitem(doctor.EXTRACTORS, "digits-cnn", dataclasses.replace(facts, weights=wrong))
    monkeypatch.setattr(doctor, "requires", lambda _: ["numpy>=99", "no-such-package"])
    assert manage.main(["doctor", "--runs", str(runs)]) == 1
    text = capsys.readouterr().out
    assert "fail    weights: digits-cnn" in text
    assert "no-such-package is missing" in text
    assert "needs >=99" in text
