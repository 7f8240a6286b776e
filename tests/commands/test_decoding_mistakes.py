"""Mistakes with autoencoders and models' folders: one clear line, exit code 2, and nothing is written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffussm.metrics.decoding import given
from diffussm.models.build import build_model
from diffussm.models.pretrained import save_pretrained
from diffussm.run.claim import assume_owner_dead
from diffussm.run.runner import TaskRunner
from diffussm.store.rundir import RunDir
from diffussm.vae.facts import WEIGHTS, vae_facts
from tests.support import tiny
from tests.support.evaluating import Run, assert_error, listed
from tests.support.latent_runs import latent_config, latent_run
from tests.support.tiny_vae import change_config, tiny_vae


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluated run on latents, whose manifest has the hash of its autoencoder; autoencoders; a model; images."""
    folder = tmp_path_factory.mktemp("shared")
    vae = tiny_vae(folder / "vae")
    config = latent_config(folder / "data", {"evaluation.vae": str(vae)}, vae_sha256=vae_facts(vae).sha256)
    run = latent_run(folder / "runs", config)
    TaskRunner(run.path).run_pending(assume_owner_dead)
    tiny_vae(folder / "another", seed=1)
    tiny_vae(folder / "sixteen", latent_channels=16)
    tiny_vae(folder / "quarter", blocks=3)
    save_pretrained(build_model(config), folder / "model")  # as of another program: it does not state its data
    (folder / "png").mkdir()
    for i in range(4):
        Image.fromarray(np.full((32, 32, 3), i, dtype=np.uint8)).save(folder / "png" / f"{i}.png")
    np.savez(folder / "small.npz", arr_0=np.zeros((4, 16, 16, 3), dtype=np.uint8))
    return folder


@pytest.fixture
def here(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy, in which paths are relative."""
    monkeypatch.delenv("DIFFUSSM_VAE", raising=False)
    monkeypatch.setenv("DIFFUSSM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(shutil.copytree(shared, tmp_path / "here"))
    return Path.cwd()


def of_run(arguments: tuple[str, ...]) -> list[str]:
    """The arguments with the run's folder for `run`."""
    (run,) = Path("runs").iterdir()
    return [str(run) if argument == "run" else argument for argument in arguments]


def torn(_: pytest.MonkeyPatch) -> None:
    path = Path("model/model.safetensors")
    path.write_bytes(path.read_bytes()[:-100])


def no_diffusers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given, "find_spec", lambda _: None)


def torn_vae(_: pytest.MonkeyPatch) -> None:
    """Its hash is not stated anywhere for a model's folder."""
    path = Path("vae") / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])


def no_number(_: pytest.MonkeyPatch) -> None:
    change_config(Path("vae"), scaling_factor="0.18215")


def zero_scale(_: pytest.MonkeyPatch) -> None:
    change_config(Path("vae"), scaling_factor=0.0)


def unknown_class(_: pytest.MonkeyPatch) -> None:
    path = Path("model/config.json")
    path.write_text(json.dumps({"_class_name": "UNet2DModel"}))


REFERENCE = ("--reference", "reference.npz", "--extractor", "photos-cnn")
MODEL = ("evaluate", "model", *REFERENCE, "--samples", "4", "--sampler-steps", "2")
SAMPLE = ("sample", "model", "--sampler-steps", "2")
CASES: list[tuple[tuple[str, ...], Callable[[pytest.MonkeyPatch], object] | None, str]] = [
    (("evaluate", "run", "--vae", "another"), None, "evaluation.vae = another: has sha256 "),  # the record is there
    (("sample", "run", "--vae", "another"), None, "but the latents of mine are of one with "),
    (("sample", "run", "--vae", "quarter", "--npz", "x.npz", "--samples", "2"), None, "has sha256 "),
    (("evaluate", "run", "--vae", "nowhere"), None, "evaluation.vae: nowhere: no such folder"),
    (("evaluate", "run", "--set", "evaluation.vae_sha256=abc"), None, "evaluation.vae_sha256 = 'abc': allowed"),
    (("sample", "run", "--sampler-steps", "2"), no_diffusers, "needs Diffusers, the extra `vae`"),
    ((*SAMPLE, "--npz", "x.npz", "--samples", "2"), None, "model: its 4 channels are latents: give --vae"),
    ((*SAMPLE, "--vae", "sixteen"), None, "its latents have 16 channels, those of data-of-model 4"),
    ((*SAMPLE, "--vae", "png"), None, "png: holds no config.json"),
    ((*SAMPLE, "--vae", "model"), None, "model/config.json: is of class 'None'; read is Diffusers' AutoencoderKL"),
    ((*SAMPLE, "--vae", "vae"), torn_vae, f"{WEIGHTS} cannot be loaded as config.json says"),
    ((*SAMPLE, "--vae", "vae"), no_number, "scaling_factor: allowed: 1 finite number"),
    ((*SAMPLE, "--vae", "vae"), zero_scale, "scaling_factor: must not be zero"),
    ((*SAMPLE, "--vae", "vae"), torn, "model/model.safetensors: is damaged"),
    ((*SAMPLE, "--vae", "vae"), unknown_class, "_class_name = 'UNet2DModel'; a DiT has"),
    ((*SAMPLE, "--vae", "vae", "--sampler", "dpm"), None, "model: evaluation.sampler = 'dpm': allowed"),
    ((*SAMPLE, "--vae", "vae", "--step", "2"), None, "--step 2: model is the folder of a model, and has no steps"),
    ((*SAMPLE, "--vae", "vae", "--classes", "10"), None, "--classes 10: must be between 0 and 9"),
    ((*SAMPLE, "--vae", "vae", "--nearest"), None, "data.name = data-of-model: needs a prepared data set"),
    (("sample", "vae/config.json"), None, "make a folder of it with `diffussm convert vae/config.json FOLDER`"),
    (MODEL, None, "model: its 4 channels are latents: give --vae, or set $DIFFUSSM_VAE"),
    ((*MODEL, "--vae", "sixteen"), None, "evaluation.vae = sixteen: its latents have 16 channels"),
    ((*MODEL, "--vae", "quarter"), None, "photos-cnn: is for 3 x 32 x 32 images, but these are 3 x 16 x 16"),
    (
        (*MODEL, "--vae", "vae", "--reference", "small.npz"),
        None,
        "is for 3 x 16 x 16 images, but these are 3 x 32 x 32",
    ),
    ((*MODEL, "--vae", "vae", "--reference", "none.npz"), None, "none.npz: no such file"),
    ((*MODEL, "--vae", "vae", "--step", "2"), None, "model: not a run folder; --step applies to runs only"),
    ((*MODEL, "--vae", "vae", "--set", "evaluation.weights=raw"), None, "evaluation.weights: model has weights of one"),
    ((*MODEL, "--vae", "vae", "--metrics", "fid,fod"), None, "evaluation.metrics"),
    (("evaluate", "model", "--vae", "vae"), None, "model: not a run folder, so the reference must be given"),
    (("evaluate", "png", *REFERENCE, "--vae", "vae"), None, "png: neither a run's folder nor a model's; vae: options"),
    (("evaluate", "png", *REFERENCE, "--out", "out"), None, "png: not a model's folder; --out applies to"),
]


@pytest.mark.parametrize(("arguments", "prepare", "words"), CASES, ids=[" ".join(case[0]) for case in CASES])
def test_one_line_and_nothing_written(
    arguments: tuple[str, ...],
    prepare: Callable[[pytest.MonkeyPatch], Any] | None,
    words: str,
    here: Path,
    diffussm: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if prepare:
        prepare(monkeypatch)
    before = listed(here.parent)
    assert_error(diffussm(*of_run(arguments)), words)
    assert listed(here.parent) == before


def test_another_autoencoder_is_named_with_both_hashes(here: Path, diffussm: Run) -> None:
    known, other = (vae_facts(here / name).sha256 for name in ("vae", "another"))
    for command in ("sample", "evaluate"):
        _, _, err = diffussm(*of_run((command, "run", "--vae", "another")))
        assert f"has sha256 {other}, but the latents of mine are of one with {known}" in err


def test_a_run_of_images_decodes_nothing(tmp_path: Path, trained: RunDir, diffussm: Run) -> None:
    before = listed(trained.path)
    for arguments in (("evaluate", trained.path), ("sample", trained.path)):
        assert_error(
            diffussm(*arguments, "--vae", "vae"), "evaluation.vae = vae: digits has images, not latents, and nothing"
        )
    assert_error(
        diffussm("train", "digits", "--set", "evaluation.vae=vae", "--runs", tmp_path / "runs"), "digits has images"
    )
    assert listed(trained.path) == before
    assert not (tmp_path / "runs").exists()
    assert tiny.config().evaluation.vae == ""
