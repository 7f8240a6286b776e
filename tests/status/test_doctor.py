"""`manage.py doctor` checks what a grid needs, and reports what is missing or damaged."""

import dataclasses
import json
from pathlib import Path

import pytest

from ablations import manage
from ablations.plan.request import GridRequest
from ablations.status import doctor
from diffussm.vae.facts import vae_facts
from tests.support.grid_file import HEADER
from tests.support.latent_runs import known_vae, latent_base
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


def test_doctor_names_the_autoencoder(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the bases on latents, and of a launched run on latents, which fails without the one that encoded them."""
    monkeypatch.delenv("DIFFUSSM_VAE", raising=False)
    needs = "autoencoder: evaluation.vae: needs the autoencoder that encoded the data"
    assert printed(capsys, "doctor", "--runs", str(runs)).count(f"warning {needs}") == 1
    vae = known_vae(tmp_path / "vae", monkeypatch)
    sha256 = vae_facts(vae).sha256
    base = latent_base(tmp_path / "mine.toml", vae_sha256=sha256)
    arms = '[axes.M]\n"2" = { model.hourglass = 2 }\n"4" = { model.hourglass = 4 }\n'
    (tmp_path / "two.toml").write_text(f'{HEADER}base = "digits"\nseeds = 1\n{arms}')
    monkeypatch.setenv("DIFFUSSM_VAE", str(vae))
    request = GridRequest.from_arguments(str(tmp_path / "two.toml"), str(base), None, {}, tmp_path / "latents")
    request.write(request.plan(), request.plan(), replay=False)
    grid = ["--grid", "two", "--runs", str(tmp_path / "latents")]
    assert printed(capsys, "doctor", *grid).count(f"ok      autoencoder: {vae}, sha256 {sha256[:12]}...") == 1
    monkeypatch.delenv("DIFFUSSM_VAE")
    assert manage.main(["doctor", *grid]) == 1
    assert f"fail    {needs} (sha256 {sha256})" in capsys.readouterr().out
