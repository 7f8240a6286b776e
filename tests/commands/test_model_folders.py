"""`diffussm sample` and `evaluate` of models in folders: published DiTs, and those of runs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import diffussm as diffussm_api
from diffussm.commands.sample.model import FolderModel
from diffussm.metrics.evaluation import folders
from diffussm.metrics.sampling import generate
from diffussm.models.published import load_diffusers_dit
from diffussm.run.claim import assume_owner_dead
from diffussm.run.runner import TaskRunner
from diffussm.store import records
from diffussm.store.hashes import file_sha256
from diffussm.store.rundir import RunDir
from diffussm.vae.autoencoder import Autoencoder
from diffussm.vae.facts import vae_facts
from tests.support.diffusers_dit import SMALL, theirs
from tests.support.evaluating import Run, assert_error, listed, parsed
from tests.support.latent_runs import known_vae, latent_config, latent_run
from tests.support.tiny_vae import tiny_vae

QUICK = ("--sampler-steps", "2", "--set", "evaluation.batch=3")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DiT as Diffusers and as the official code store it, an autoencoder, which makes images of 32 x 32 pixels of its
    latents of 8 x 8, and a reference; never modified."""
    folder = tmp_path_factory.mktemp("published")
    theirs(**SMALL).save_pretrained(folder / "pipeline" / "transformer")
    torch.save(load_diffusers_dit(folder / "pipeline").state_dict(), folder / "dit.pt")
    tiny_vae(folder / "vae", blocks=3, scaling_factor=0.5, shift_factor=0.25)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    np.savez(folder / "reference.npz", arr_0=pixels)
    return folder


@pytest.fixture
def dit(here: Path, tmp_path: Path, diffussm: Run) -> Path:
    code, out, err = diffussm("convert", here / "dit.pt", tmp_path / "dit", "--heads", 2)
    assert (code, out) == (0, f"{tmp_path / 'dit'}\n"), err
    return tmp_path / "dit"


@pytest.fixture
def measured(here: Path) -> tuple[str, ...]:
    reference = str(here / "reference.npz")
    return ("--reference", reference, "--extractor", "photos-cnn", "--metrics", "fid", "--samples", "4", *QUICK)


def arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path) as file:
        return file["arr_0"], file["arr_1"]


def test_samples_of_a_published_dit(here: Path, dit: Path, tmp_path: Path, diffussm: Run) -> None:
    """In both layouts: decode(z / scale + shift), as the autoencoder's config has them, by DDPM without clipping."""
    vae = ("--vae", here / "vae", "--sampler-steps", 3, "--guidance", 4)
    assert diffussm("sample", dit, *vae, "--npz", tmp_path / "a.npz", "--samples", 5)[0] == 0
    assert diffussm("sample", here / "pipeline", *vae, "--npz", tmp_path / "b.npz", "--samples", 5)[0] == 0
    (pixels, labels), (of_pipeline, _) = arrays(tmp_path / "a.npz"), arrays(tmp_path / "b.npz")
    assert pixels.shape == (5, 32, 32, 3)
    assert np.abs(pixels.astype(int) - of_pipeline).max() <= 1
    of_api = diffussm_api.sample(diffussm_api.load(dit), dit, 5, steps=3, guidance=4.0, vae=here / "vae")
    np.testing.assert_array_equal(of_api.transpose(0, 2, 3, 1), pixels)
    config = FolderModel(dit, {"vae": str(here / "vae"), "guidance": 4.0}).config
    e = config.evaluation
    assert (e.sampler, e.sampler_steps, e.clip, e.guidance_channels, e.samples) == ("ddpm", 250, False, 3, 50_000)
    assert (config.diffusion.timesteps, config.diffusion.learned_variance) == (1000, True)
    assert (config.data.scale, config.data.shift, config.data.decoded_size) == ((0.5,), (0.25,), 32)
    raw = config.model_copy(  # what the network makes, as if it were images
        update={
            "evaluation": e.model_copy(update={"sampler_steps": 3, "vae": ""}),
            "data": config.data.model_copy(update={"decoded_size": 0}),
        }
    )
    kept: list[torch.Tensor] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("diffussm.metrics.sampling.to_pixels", lambda z, _: kept.append(z) or np.zeros((len(z), 1)))
        generate(raw, load_diffusers_dit(here / "pipeline"), 5, labels=labels)
    images = Autoencoder(here / "vae").decode(kept[0] / 0.5 + 0.25)
    expected = ((images.clamp(-1, 1) + 1) * 127.5).round().permute(0, 2, 3, 1).numpy()
    assert np.abs(pixels - expected).max() <= 1


def test_sheets(here: Path, dit: Path, tmp_path: Path, diffussm: Run) -> None:
    given = ("--vae", here / "vae", "--sampler-steps", 2, "--layout", "1x2", "--guidance", 1.5)
    code, out, err = diffussm("sample", dit, *given, "--classes", "1,7")
    assert code == 0, err
    ending = "ddpm-2-guidance-1.5-of-3-channels.png"
    assert out.split() == [str(dit / "sheets" / f"class-{label}-{ending}") for label in (1, 7)]
    code, out, _ = diffussm("sample", dit, *given, "--guidance-channels", 0, "--out", tmp_path / "out")
    assert (code, listed(tmp_path / "out")) == (0, ["all-ddpm-2-guidance-1.5.png"])


def test_a_record(
    here: Path, dit: Path, measured: tuple[str, ...], diffussm: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = (*measured, "--vae", str(here / "vae"), "--guidance", "1.5", "--json")
    code, out, err = diffussm("evaluate", dit, *given)
    assert code == 0, err
    (record,) = parsed(out).values()
    key = record.key
    assert (key.sampler, key.sampler_steps, key.guidance, key.guidance_channels) == ("ddpm", 2, 1.5, 3)
    assert (key.samples, key.labels, key.clip, key.weights) == (4, "random", False, "outside")
    assert key.vae_sha256 == vae_facts(here / "vae").sha256
    assert record.weights_sha256 == file_sha256(dit / "model.safetensors")
    assert record.run_id == f"model-{record.weights_sha256[:12]}"
    source = {"file": str(here / "dit.pt"), "sha256": file_sha256(here / "dit.pt")}
    assert record.provenance["model"] == {"folder": str(dit), "run_id": "", "source": source}
    (folder,) = (dit / "evaluations").iterdir()
    assert listed(folder) == ["record.json", "samples.npz", "samples.png"]
    assert records.read(folder / "record.json") == record
    monkeypatch.setattr(folders, "evaluate_model", lambda *_: pytest.fail("it is there"))
    assert diffussm("evaluate", dit, *given) == (0, out, "")
    code, shown, _ = diffussm("evaluate", dit, *given[:-1])
    assert shown.splitlines()[-1] == f"decoded by the autoencoder with sha256 {key.vae_sha256[:12]}"


def test_what_changes_the_samples_makes_another_record(
    here: Path, dit: Path, measured: tuple[str, ...], tmp_path: Path, diffussm: Run
) -> None:
    """Guidance, the autoencoder's scale, which its hash leaves out, and the weights."""
    vae = tmp_path / "scaled"
    shutil.copytree(here / "vae", vae)
    content = json.loads((vae / "config.json").read_text())
    (vae / "config.json").write_text(json.dumps({**content, "scaling_factor": 1.0}))
    first = (*measured, "--vae", str(here / "vae"))
    out = ("--out", str(tmp_path / "out"))
    for given in (first, (*first, "--guidance", "2"), (*measured, "--vae", str(vae))):
        assert diffussm("evaluate", dit, *given, *out)[0] == 0
    assert diffussm("evaluate", here / "pipeline", *first, *out)[0] == 0
    assert not (dit / "evaluations").exists()
    found = [records.read(path) for path in (tmp_path / "out").glob("*/record.json")]
    assert len(found) == 4
    assert len({record.weights_sha256 for record in found if record}) == 2


def test_the_autoencoder_of_a_pipeline(
    here: Path, measured: tuple[str, ...], tmp_path: Path, diffussm: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DIFFUSSM_VAE", raising=False)
    shutil.copytree(here / "pipeline", tmp_path / "pipeline")
    assert_error(diffussm("evaluate", tmp_path / "pipeline", *measured), "its 4 channels are latents: give --vae")
    shutil.copytree(here / "vae", tmp_path / "pipeline" / "vae")
    code, out, err = diffussm("evaluate", tmp_path / "pipeline", *measured, "--json")
    assert code == 0, err
    (record,) = parsed(out).values()
    assert record.key.vae_sha256 == vae_facts(here / "vae").sha256
    monkeypatch.setenv("DIFFUSSM_VAE", str(here / "vae"))
    assert diffussm("evaluate", here / "pipeline", *measured, "--out", tmp_path / "out")[0] == 0


def test_a_converted_run_is_sampled_as_the_run(tmp_path: Path, diffussm: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder states scale, shift and range of its latents, and the process that it was trained with."""
    vae = known_vae(tmp_path / "vae", monkeypatch)
    facts = {"scale": (0.5, 2.0, 4.0, 1.0), "shift": (0.25, -0.5, 0.125, 7.0), "vae_range": (0.0, 1.0)}
    config = latent_config(tmp_path / "data", {"diffusion.timesteps": 40, "evaluation.vae": str(vae)}, **facts)
    run = latent_run(tmp_path / "runs", config)
    TaskRunner(run.path).run_pending(assume_owner_dead)
    assert diffussm("convert", run.path, tmp_path / "model")[0] == 0
    assert diffussm("convert", tmp_path / "model", tmp_path / "again")[0] == 0
    given = ("--sampler", "ddim", "--sampler-steps", 4, "--samples", 6, "--vae", vae)
    for path in (run.path, tmp_path / "model", tmp_path / "again"):
        assert diffussm("sample", path, *given, "--npz", tmp_path / f"{path.name}.npz")[0] == 0
    pixels, labels = arrays(tmp_path / f"{run.path.name}.npz")
    assert 0 < pixels.mean() < 255
    for name in ("model", "again"):
        found, their_labels = arrays(tmp_path / f"{name}.npz")
        np.testing.assert_array_equal(their_labels, labels)
        assert np.abs(found.astype(int) - pixels).max() <= 1
    assert str(tmp_path / "data") not in (tmp_path / "model" / "config.json").read_text()


def test_a_model_of_images(trained: RunDir, tmp_path: Path, diffussm: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs no autoencoder, whatever the environment names, and reads none."""
    monkeypatch.setenv("DIFFUSSM_VAE", "nowhere")
    assert diffussm("convert", trained.path, tmp_path / "model")[0] == 0
    given = ("--reference", "digits", "--samples", 12, "--sampler-steps", 2, "--metrics", "fid,label_accuracy")
    code, out, err = diffussm("evaluate", tmp_path / "model", trained.path, *given, "--json")
    assert code == 0, err
    of_model, of_run = parsed(out).values()
    assert of_model.metrics == pytest.approx(of_run.metrics)
    assert of_model.key == of_run.key
    assert of_model.provenance["model"]["run_id"] == trained.run_id
    assert of_model.step == 24
    assert_error(
        diffussm("sample", tmp_path / "model", "--vae", "nowhere"),
        "evaluation.vae = nowhere: digits has images, not latents",
    )
