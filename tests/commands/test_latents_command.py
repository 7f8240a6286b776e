"""`diffussm data prepare --vae` and `diffussm data show` of latents, and what they refuse: in one line, with nothing
written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diffussm.errors import UserError
from diffussm.vae.facts import VARIABLE, WEIGHTS, vae_facts
from tests.support.evaluating import Run
from tests.support.known_vae import known_vae
from tests.support.prepared_set import noise_images, write_latents, write_prepared
from tests.support.sources import class_folders
from tests.support.tiny_vae import change_config

NETWORK_IN = ("--image-size", 8)


@pytest.fixture
def vae(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(VARIABLE, raising=False)
    return known_vae(tmp_path / "vae", monkeypatch)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return class_folders(tmp_path / "in", per_class=2)


@pytest.fixture
def made(tmp_path: Path, source: Path, vae: Path, diffussm: Run) -> Path:
    code, _, err = diffussm("data", "prepare", source, tmp_path / "set", *NETWORK_IN, "--vae", vae, "--device", "cpu")
    assert code == 0, err
    return tmp_path / "set"


def test_every_option(tmp_path: Path, source: Path, vae: Path, diffussm: Run) -> None:
    code, out, err = diffussm(
        "data", "prepare", source, tmp_path / "set", *NETWORK_IN, "--vae", vae, "--flips", "--batch", 4,
        "--precision", "bf16", "--dtype", "float16", "--scale", "0.5,2", "--shift", "-1", "--vae-range", "0,1",
        "--device", "cpu",
    )  # fmt: skip
    assert (code, out) == (0, f"{tmp_path}/set\n")
    first, of_each, rounded, encoded = err.splitlines()[-4:]
    assert first == "6 latents of 2 x 4 x 4, transform centre-crop 8, 3 classes: ant, bee, cat"
    assert of_each == (
        "of each image mean and standard deviation; both flips; scale (0.5, 2), shift -1; stored as float16; "
        f"pixels 0 .. 1; decoded to 8 x 8 by VAE {vae_facts(vae).sha256[:12]}..."
    )
    assert rounded == (  # bf16 has fewer digits
        "float16 changes means by up to 0 (RMS 0), standard deviations by up to 0 (RMS 0)"
    )
    assert encoded.endswith(" in bf16, in batches of 4")
    shown = diffussm("data", "show", tmp_path / "set")[1].splitlines()
    assert shown[:4] == [f"{tmp_path}/set: {first}", of_each, rounded, encoded]
    assert f"autoencoder {vae_facts(vae).sha256}" in shown


def test_show_decodes(made: Path, vae: Path, diffussm: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = diffussm("data", "show", made)
    assert (code, out.splitlines()[0][:20]) == (0, f"{made}: 6 latents of"[:20])
    assert err == "no picture: add --vae FOLDER, the autoencoder of these latents, or set $DIFFUSSM_VAE\n"
    picture = made.with_name("set.png")
    assert not picture.exists()
    code, out, err = diffussm("data", "show", made, "--vae", vae)
    assert (code, out.splitlines()[-1]) == (0, str(picture))
    assert err.startswith("latents decoded 6 of 6")
    with Image.open(picture) as first:
        assert first.width > 500
        shown = np.asarray(first)
    monkeypatch.setenv(VARIABLE, str(vae))
    code, out, _ = diffussm("data", "show", made, "--out", made.with_name("other.png"))
    assert code == 0
    with Image.open(made.with_name("other.png")) as second:
        np.testing.assert_array_equal(np.asarray(second), shown)


def test_show_of_samples_of_an_unknown_autoencoder(tmp_path: Path, vae: Path, diffussm: Run) -> None:
    samples = np.zeros((3, 1, 2, 4, 4), dtype=np.float32)
    write_latents(tmp_path / "set", samples, scaled=True, scale=(2.0,), shift=(0.5,), decoded_size=8)
    code, out, _ = diffussm("data", "show", tmp_path / "set", "--vae", vae)
    assert code == 0
    assert "autoencoder unknown" in out
    with Image.open(tmp_path / "set.png") as picture:  # of 0.5, whose red is 0.25
        assert picture.getpixel((20, 20)) == (159, 112, 135)


Change = Callable[[Path, Path], Any]  # of the autoencoder's folder and the source
NO_CHANGE: Change = lambda *_: None  # noqa: E731
MISTAKES: dict[str, tuple[Change, list[Any], str]] = {
    "--flips alone": (NO_CHANGE, ["--flips"], "--flips: is of latents: add --vae FOLDER, or leave it out"),
    "--batch alone": (NO_CHANGE, ["--batch", 8], "--batch: is of latents: add --vae FOLDER"),
    "--vae-range alone": (NO_CHANGE, ["--vae-range", "-1,1"], "--vae-range: is of latents: add --vae FOLDER"),
    "no such folder": (NO_CHANGE, ["--vae", "/no/such"], "/no/such: no such folder; an autoencoder is a folder in"),
    "no config": (lambda vae, _: (vae / "config.json").unlink(), [], "holds no config.json"),
    "no weights": (lambda vae, _: (vae / WEIGHTS).unlink(), [], f"holds no {WEIGHTS}"),
    "a pickle": (
        lambda vae, _: (vae / WEIGHTS).rename(vae / "diffusion_pytorch_model.bin"),
        [],
        "diffusion_pytorch_model.bin is not read",
    ),
    "another class": (
        lambda vae, _: change_config(vae, _class_name="VQModel"),
        [],
        "is of class 'VQModel'; read is Diffusers' AutoencoderKL",
    ),
    "a scale of zero in the config": (
        lambda vae, _: change_config(vae, scaling_factor=0),
        [],
        "config.json: scaling_factor: must not be zero",
    ),
    "a size that is no multiple": (
        NO_CHANGE,
        ["--image-size", 9],
        "its latents have 1/2 of the pixels per side, and 9 is no multiple of 2",
    ),
    "--channels 1": (NO_CHANGE, ["--channels", 1], "--channels 1: an autoencoder takes 3; leave it out"),
    "--vae-range of one number": (NO_CHANGE, ["--vae-range", "1"], "--vae-range 1: allowed: two numbers, what black"),
    "--vae-range the other way round": (NO_CHANGE, ["--vae-range", "1,-1"], "--vae-range 1,-1: allowed: two numbers"),
    "--vae-range that is no number": (NO_CHANGE, ["--vae-range", "0,1e999"], "--vae-range 0,1e999: allowed: numbers"),
    "--scale 0": (NO_CHANGE, ["--scale", "0"], "--scale 0: allowed: numbers, with commas between them, none of them 0"),
    "--scale of three channels": (
        NO_CHANGE,
        ["--scale", "1,2,3"],
        "--scale: has 3 values; allowed: one, or one for each of 2 channels",
    ),
    "--shift nan": (NO_CHANGE, ["--shift", "nan"], "--shift nan: allowed: numbers, with commas between them"),
    "--precision fp16": (NO_CHANGE, ["--precision", "fp16"], "--precision fp16: allowed: float32 or bf16"),
    "--dtype float64": (NO_CHANGE, ["--dtype", "float64"], "--dtype float64: allowed: float32 or float16"),
    "--batch 0": (NO_CHANGE, ["--batch", 0], "--batch 0: allowed: 1 .. 4096"),
    "--device tpu": (NO_CHANGE, ["--device", "tpu"], "--device tpu: allowed: cuda or cpu"),
    "no GPU": (NO_CHANGE, ["--device", "cuda"], "--device cuda: this machine has no GPU that torch can use"),
    "a broken image": (
        lambda _, source: (source / "bee" / "0.png").write_bytes(b"<html>"),
        [],
        "bee/0.png: is damaged or not an image; --skip-broken leaves out such images",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(
    name: str, tmp_path: Path, source: Path, vae: Path, diffussm: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    change, options, message = MISTAKES[name]
    change(vae, source)
    given = [] if name.endswith(" alone") or "--vae" in options else ["--vae", vae]
    size = [] if "--image-size" in options else NETWORK_IN
    code, out, err = diffussm("data", "prepare", source, tmp_path / "set", *size, *given, *options)
    assert (code, out) == (2, ""), err
    (line,) = [line for line in err.splitlines() if not line.startswith("images ")]
    assert line.startswith("error: ")
    assert message in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "vae"]


def test_weights_that_do_not_fit_leave_nothing(
    tmp_path: Path, source: Path, vae: Path, diffussm: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(folder: Path) -> Any:
        raise UserError(f"{folder}: {WEIGHTS} does not fit config.json")

    monkeypatch.setattr("diffussm.vae.autoencoder._load", load)
    code, out, err = diffussm("data", "prepare", source, tmp_path / "set", *NETWORK_IN, "--vae", vae)
    assert (code, out, err) == (2, "", f"error: {vae}: {WEIGHTS} does not fit config.json\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "vae"]


def test_pictures_that_are_refused(made: Path, vae: Path, tmp_path: Path, diffussm: Run, monkeypatch: Any) -> None:
    def refused(folder: Path, *options: Any) -> str:
        code, out, err = diffussm("data", "show", folder, *options)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert not folder.with_name(f"{folder.name}.png").exists()
        return err

    other = known_vae(tmp_path / "other", monkeypatch, b"others")
    both = f"has SHA-256 {vae_facts(other).sha256}, but {made} was encoded by one with {vae_facts(vae).sha256}"
    assert refused(made, "--vae", other) == f"error: --vae {other}: {both}\n"
    monkeypatch.setenv(VARIABLE, str(other))
    assert refused(made) == f"error: $DIFFUSSM_VAE = {other}: {both}\n"
    monkeypatch.delenv(VARIABLE)
    assert "none: no such folder" in refused(made, "--vae", tmp_path / "none")
    write_latents(tmp_path / "latents", np.zeros((3, 1, 2, 4, 4), dtype=np.float32), decoded_size=16)
    error = refused(tmp_path / "latents", "--vae", vae)
    assert "its latents of 16 x 16 pixels have 2 x 8 x 8, those in " in error
    assert error.endswith("latents 2 x 4 x 4\n")
    write_prepared(tmp_path / "pixels", noise_images())
    assert "pixels holds images, not latents; leave it out" in refused(tmp_path / "pixels", "--vae", vae)
