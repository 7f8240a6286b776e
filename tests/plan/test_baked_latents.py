"""What was baked into latents is said at launch, once for a data set, and is in every record."""

from pathlib import Path

import numpy as np
import pytest

from ablations import launch
from diffussm.commands.train import train
from diffussm.store import records
from tests.support.grid_file import HEADER
from tests.support.latent_runs import latent_base, latents
from tests.support.prepared_set import write_latents
from tests.support.tiny_vae import tiny_vae

LINE = "warning: data.name = mine: baked into its latents, the same in each epoch: one posterior sample, one flip\n"


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIFFUSSM_VAE", str(tiny_vae(tmp_path / "vae")))
    return latent_base(tmp_path / "my_base.toml")


def bake(folder: Path) -> None:
    write_latents(
        folder, latents()[:, :, 0], "baked", np.arange(20) % 10, tuple("abcdefghij"),
        baked=("one posterior sample", "one flip"),
    )  # fmt: skip


def test_a_plan_says_it_once(base: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("two.toml").write_text(
        f'{HEADER}base = "digits"\nseeds = 2\n[axes.M]\n"M = 2" = {{ model.hourglass = 2 }}\n'
        '"M = 4" = { model.hourglass = 4 }\n'
    )
    arguments = ["--grid", "two.toml", "--base", str(base), "--dry-run"]
    assert launch.main(arguments) == 0
    assert "baked" not in capsys.readouterr().out
    bake(base.with_name("data"))
    assert launch.main(arguments) == 0
    assert capsys.readouterr().out.count(LINE) == 1
    monkeypatch.delenv("DIFFUSSM_VAE")  # a run that lacks something
    assert launch.main(arguments) == 0
    shown = capsys.readouterr().out
    assert shown.count(LINE) == 1
    assert (
        shown.count("Cannot run: evaluation.vae: needs the autoencoder that encoded the data: set evaluation.vae") == 1
    )


def test_one_run_says_it_and_so_does_its_record(base: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bake(base.with_name("data"))
    assert train(str(base), {}, Path("runs"), False, False, None, False) == 0
    assert capfd.readouterr().err.count(LINE) == 1
    (path,) = Path("runs").glob("*/milestones/2/*/record.json")
    record = records.read(path)
    assert record
    assert record.data_baked == ("one posterior sample", "one flip")
    assert record.key.vae_sha256
    with np.load(path.with_name("samples.npz")) as samples:
        assert samples["arr_0"].shape == (12, 32, 32, 3)
