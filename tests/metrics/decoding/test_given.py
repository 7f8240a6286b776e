"""The autoencoder of an evaluation: which it must be, where it is, and what is wrong with the one that is given."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from diffussm.config import Config, Request
from diffussm.errors import UserError
from diffussm.metrics.decoding import given
from diffussm.metrics.key import evaluation_key
from diffussm.metrics.requested_files import as_requested
from diffussm.metrics.requirements import missing_requirement
from diffussm.run.request import request_run
from diffussm.run.tasks import missing_records
from diffussm.vae.facts import vae_facts
from tests.support import tiny
from tests.support.latent_runs import known_vae, latent_config, latent_run

OTHER = "0123456789abcdef" * 4


@pytest.fixture
def vae(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DIFFUSSM_VAE", raising=False)
    return known_vae(tmp_path / "vae", monkeypatch)


def with_vae(config: Config, vae: Path | str, **changes: Any) -> Config:
    update = {"vae": str(vae), **changes}
    return config.model_copy(update={"evaluation": config.evaluation.model_copy(update=update)})


def test_the_hash_is_in_the_key(vae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sha256 = vae_facts(vae).sha256
    known, unknown = latent_config(tmp_path / "a", vae_sha256=sha256), latent_config(tmp_path / "b")
    assert evaluation_key(known).vae_sha256 == sha256  # wherever it is
    assert evaluation_key(with_vae(unknown, vae)).vae_sha256 == sha256
    assert evaluation_key(with_vae(unknown, "", vae_sha256=OTHER)).vae_sha256 == OTHER
    assert evaluation_key(tiny.config()).vae_sha256 == ""
    assert evaluation_key(unknown).vae_sha256 == evaluation_key(with_vae(unknown, "nowhere")).vae_sha256 == ""
    monkeypatch.setenv("DIFFUSSM_VAE", str(vae))
    assert evaluation_key(unknown).vae_sha256 == sha256
    other = known_vae(tmp_path / "other", monkeypatch, act_fn="silu")
    a, b = (evaluation_key(with_vae(unknown, folder)) for folder in (vae, other))
    assert a.digest != b.digest


def test_how_it_decodes_is_in_the_key(vae: Path, tmp_path: Path) -> None:
    """Another range has other images of the same values, which the digest of the data does not tell apart."""
    config = with_vae(latent_config(tmp_path / "a"), vae)
    key, run = evaluation_key(config), request_run(tmp_path / "runs", config)
    for field, value in (("vae_range", (0.0, 1.0)), ("scale", (0.25,)), ("shift", (0.0625,))):
        other = config.model_copy(update={"data": config.data.model_copy(update={field: value})})
        assert f"{field.removeprefix('vae_')}={','.join(map(str, value))}" in evaluation_key(other).decoding
        assert evaluation_key(other).digest != key.digest
        assert evaluation_key(other).content_digest != key.content_digest
        assert request_run(tmp_path / "runs", other).path == run.path  # the same run, measured again


def test_a_key_without_one_is_as_before() -> None:
    key = evaluation_key(tiny.config())
    assert type(key)(**key.model_dump(exclude={"vae_sha256", "decoding"})).digest == key.digest
    assert key.model_copy(update={"vae_sha256": OTHER}).digest != key.digest


def test_as_requested(vae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder has an absolute path and its hash; equal ones in other places give equal results."""
    monkeypatch.chdir(tmp_path)
    config, sha256 = latent_config(tmp_path / "data"), vae_facts(vae).sha256
    shutil.copytree(vae, tmp_path / "copy")
    asked = [as_requested(with_vae(config, folder)) for folder in ("vae", "copy")]
    assert [one.evaluation.vae for one in asked] == [str(vae), str(tmp_path / "copy")]
    assert {one.evaluation.vae_sha256 for one in asked} == {sha256}
    requests = [Request.from_config(one) for one in asked]
    assert requests[0].digest != requests[1].digest
    assert requests[0].results_digest == requests[1].results_digest
    assert as_requested(config).evaluation.vae_sha256 == ""
    of_known = as_requested(latent_config(tmp_path / "known", vae_sha256=OTHER)).evaluation
    assert (of_known.vae, of_known.vae_sha256) == ("", OTHER)
    monkeypatch.setenv("DIFFUSSM_VAE", "copy")
    of_environment = as_requested(config).evaluation
    assert (of_environment.vae, of_environment.vae_sha256) == ("", sha256)
    assert as_requested(tiny.config()).evaluation == tiny.config().evaluation


def missing(config: Config) -> str:
    line = missing_requirement(config)
    assert "\n" not in line
    return line


def test_nothing_is_missing_with_that_of_the_data(vae: Path, tmp_path: Path) -> None:
    config = latent_config(tmp_path / "data", vae_sha256=vae_facts(vae).sha256)
    assert missing(with_vae(config, vae)) == ""
    shutil.copytree(vae, tmp_path / "pipeline" / "vae")
    assert missing(with_vae(config, tmp_path / "pipeline")) == ""


REMEDY = "set evaluation.vae or $DIFFUSSM_VAE to a folder in Diffusers' format"


def test_none_is_given(vae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = "evaluation.vae: needs the autoencoder that encoded the data"
    assert missing(latent_config(tmp_path / "a")) == f"{needs}: {REMEDY}"
    assert missing(latent_config(tmp_path / "b", vae_sha256=OTHER)) == f"{needs} (sha256 {OTHER}): {REMEDY}"
    monkeypatch.setenv("DIFFUSSM_VAE", "nowhere")
    assert missing(latent_config(tmp_path / "c")).startswith("$DIFFUSSM_VAE: nowhere: no such folder")


def test_another_is_refused_with_both_hashes(vae: Path, tmp_path: Path) -> None:
    sha256 = vae_facts(vae).sha256
    config = with_vae(latent_config(tmp_path / "a", vae_sha256=OTHER), vae)
    assert missing(config) == (
        f"evaluation.vae = {vae}: has sha256 {sha256}, but the latents of mine are of one with {OTHER}; {REMEDY}"
    )
    config = with_vae(latent_config(tmp_path / "b"), vae, vae_sha256=OTHER)
    assert f"has sha256 {sha256}, but the one that was requested had {OTHER}" in missing(config)
    config = with_vae(latent_config(tmp_path / "c", vae_sha256=sha256), vae, vae_sha256=OTHER)
    for raised in (missing_requirement, evaluation_key):
        with pytest.raises(UserError, match=f"vae_sha256 = {OTHER}: the latents of mine are of .* {sha256}; remove it"):
            raised(config)


def test_one_of_other_latents(vae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = latent_config(tmp_path / "data")
    channels = known_vae(tmp_path / "sixteen", monkeypatch, latent_channels=16)
    assert missing(with_vae(config, channels)).endswith("its latents have 16 channels, those of mine 4")
    factor = known_vae(tmp_path / "factor", monkeypatch, block_out_channels=[1, 1, 1])
    assert missing(with_vae(config, factor)).endswith(
        "decodes latents of 4 x 4 to 16 pixels per side, but those of mine are of 32"
    )


def test_without_diffusers(vae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = with_vae(latent_config(tmp_path / "data"), vae)
    monkeypatch.setattr(given, "find_spec", lambda _: None)
    assert missing(config) == "evaluation.vae: needs Diffusers, the extra `vae`: pip install 'diffussm[vae]'"


@pytest.mark.parametrize(("field", "value"), [("vae", "somewhere"), ("vae_sha256", OTHER)])
def test_images_read_none(field: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny.config(**{f"evaluation__{field}": value})
    for raised in (missing_requirement, evaluation_key, lambda one: request_run(tmp_path / "runs", one)):
        with pytest.raises(UserError, match=rf"evaluation\.{field} = .*{value}: digits has images, .* remove it"):
            raised(config)
    assert not (tmp_path / "runs").exists()
    monkeypatch.setenv("DIFFUSSM_VAE", "somewhere")  # it may be for other runs
    assert missing_requirement(tiny.config()) == ""


def test_data_that_are_not_there_yet_may_be_latents(vae: Path) -> None:
    """Of a base that names its own data, until they are prepared."""
    data = tiny.config().data.model_copy(update={"name": "mine", "root": "nowhere"})
    config = with_vae(tiny.config().model_copy(update={"data": data}), vae)
    assert missing(config).startswith("data.name = mine: needs a prepared data set")
    assert "vae" not in missing(config)


def test_of_two_requests_the_one_whose_autoencoder_is_there_is_evaluated(
    vae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = latent_config(tmp_path / "data", vae_sha256=vae_facts(vae).sha256)
    run = latent_run(tmp_path / "runs", as_requested(with_vae(config, "gone")))
    run.add_requests([Request.from_config(as_requested(with_vae(config, vae)))])
    (one,) = missing_records(run, run.requests())
    assert one.request.evaluation.vae == str(vae)
