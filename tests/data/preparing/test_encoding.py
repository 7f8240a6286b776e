"""Encoding of images: batches of one shape, what a data set says of it, and what is refused when it is continued."""

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from diffussm.data.prepared.latents import PreparedLatents
from diffussm.data.prepared.manifest import Encoding, read_manifest
from diffussm.data.prepared.show import summary
from diffussm.data.prepared.verify import find_damage
from diffussm.data.preparing import build as preparing
from diffussm.data.preparing.encoding import EncodingOptions, EncodingRecipe, encoding_recipe
from diffussm.data.preparing.prepare import prepare
from diffussm.data.preparing.recipe import Options, image_recipe
from diffussm.data.sources.detect import open_source
from diffussm.errors import UserError
from diffussm.host.machine import processor
from diffussm.vae.facts import vae_facts
from tests.data.preparing.test_prepare import content
from tests.data.preparing.test_resume import Kill, Killed
from tests.support.known_vae import KnownNetwork, known_means, known_vae
from tests.support.sources import class_folders, noise, save

SIZE = Options(image_size=8)
COUNT = 9


class Watched(KnownNetwork):
    """Keeps the shapes of what it encodes, and the threads that torch has then."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.threads: set[int] = set()

    def encode(self, images: torch.Tensor) -> Any:
        self.shapes.append(tuple(images.shape))
        self.threads.add(torch.get_num_threads())
        return super().encode(images)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched()


@pytest.fixture
def vae(tmp_path: Path, network: Watched, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = known_vae(tmp_path / "vae", monkeypatch, scaling_factor=0.5, shift_factor=0.25)
    monkeypatch.setattr("diffussm.vae.autoencoder._load", lambda _: network)
    return folder


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nine images, for three shards of four, four and one."""
    monkeypatch.setattr(preparing, "LEAST_IMAGES", 4)
    monkeypatch.setattr(preparing, "SHARDS", 3)
    return class_folders(tmp_path / "in", per_class=3)


def test_batches_have_one_shape(source: Path, vae: Path, network: Watched, tmp_path: Path) -> None:
    torch.set_num_threads(2)
    try:
        prepare(source, tmp_path / "out", SIZE, encoding=EncodingOptions(vae, batch=3, flips=True))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert network.shapes == [(3, 3, 8, 8)] * 10  # of both flips, of 3 + 1, 3 + 1 and 1 images
    assert network.threads == {1}


def test_what_the_manifest_says(source: Path, vae: Path, tmp_path: Path) -> None:
    manifest = prepare(source, tmp_path / "out", SIZE, encoding=EncodingOptions(vae))
    facts = manifest.latents
    assert facts is not None
    assert (manifest.kind, manifest.flips, manifest.channels, manifest.image_size) == ("mean-std", "none", 2, 4)
    assert (facts.vae_sha256, facts.vae_range) == (vae_facts(vae).sha256, (-1.0, 1.0))
    assert (facts.scale, facts.shift, facts.scaled, facts.decoded_size) == ((0.5,), (0.25,), False, 8)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else processor()
    assert facts.encoding == Encoding(device=device, precision="float32", batch=32)
    assert (facts.dtype, facts.mean_rounding, facts.baked) == ("float32", None, ())
    assert {"torch", "diffusers", "Pillow"} <= manifest.versions.keys()
    assert (manifest.classes, manifest.transform) == (("ant", "bee", "cat"), "centre-crop 8")
    assert find_damage(tmp_path / "out", lambda _: None) == []
    assert summary(manifest).splitlines()[1:3] == [
        "of each image mean and standard deviation; no flips; scale 0.5, shift 0.25; stored as float32; "
        f"pixels -1 .. 1; decoded to 8 x 8 by VAE {facts.vae_sha256[:12]}...",
        f"encoded on {device} in float32, in batches of 32",
    ]


def test_an_image_has_the_same_latents_with_and_without_its_mirror_image(
    source: Path, vae: Path, tmp_path: Path
) -> None:
    prepare(source, tmp_path / "one", SIZE, encoding=EncodingOptions(vae, batch=3))
    prepare(source, tmp_path / "two", SIZE, encoding=EncodingOptions(vae, batch=3, flips=True))
    one, two = (PreparedLatents(tmp_path / name).stored(np.arange(COUNT)) for name in ("one", "two"))
    np.testing.assert_array_equal(one, two)


def test_broken_images_change_no_others(source: Path, vae: Path, tmp_path: Path) -> None:
    given = EncodingOptions(vae, batch=3)
    prepare(source, tmp_path / "whole", SIZE, encoding=given)
    (source / "bee" / "1.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"bee/1\.png: is empty; --skip-broken leaves out such images"):
        prepare(source, tmp_path / "set", SIZE, encoding=given)
    skipping = Options(image_size=8, skip_broken=True)
    assert prepare(source, tmp_path / "set", skipping, encoding=given).count == COUNT - 1
    kept = np.delete(PreparedLatents(tmp_path / "whole").stored(np.arange(COUNT)), 4, axis=0)
    np.testing.assert_array_equal(PreparedLatents(tmp_path / "set").stored(np.arange(COUNT - 1)), kept)


def test_float16_and_the_error_it_makes(source: Path, vae: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "exact", SIZE, encoding=EncodingOptions(vae))
    manifest = prepare(source, tmp_path / "half", SIZE, encoding=EncodingOptions(vae, dtype="float16"))
    exact, half = (PreparedLatents(tmp_path / name).stored(np.arange(COUNT)) for name in ("exact", "half"))
    np.testing.assert_array_equal(half, exact.astype(np.float16).astype(np.float32))
    error = np.abs(half - exact)[:, 0].astype(np.float64)
    assert manifest.latents is not None
    stated = manifest.latents.mean_rounding
    assert stated is not None
    assert manifest.latents.std_rounding is not None
    assert manifest.latents.std_rounding.largest == 0  # a quarter and a half
    assert stated.largest == error.max() > 0
    assert stated.rms == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-6)
    line = summary(read_manifest(tmp_path / "half")).splitlines()[2]
    assert line == (
        f"float16 changes means by up to {stated.largest:.2g} (RMS {stated.rms:.2g}), standard deviations by up to 0 "
        "(RMS 0)"
    )


def test_grey_images_are_repeated_in_three_channels(vae: Path, tmp_path: Path) -> None:
    grey = np.stack([noise(8, 8, seed, 1) for seed in range(3)])
    np.savez(tmp_path / "grey.npz", arr_0=grey[..., None])
    manifest = prepare(tmp_path / "grey.npz", tmp_path / "out", Options(), encoding=EncodingOptions(vae))
    assert (manifest.source.notes, manifest.transform) == ({"grey to colour": 3}, "none")
    found = PreparedLatents(tmp_path / "out").stored(np.arange(3))[:, 0]
    np.testing.assert_allclose(found, known_means(np.stack([grey] * 3, 1), -1, 1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("precision", "advice"), [("float32", "restore the weights of the VAE"), ("bf16", "add --precision float32")]
)
def test_an_encoding_that_is_not_finite(
    precision: str, advice: str, source: Path, vae: Path, network: Watched, tmp_path: Path
) -> None:
    def encode(images: torch.Tensor) -> Any:
        found = KnownNetwork.encode(network, images).latent_dist
        mean = found.mean.clone()
        mean[1, 0, 0, 0] = torch.inf
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=mean, std=found.std))

    network.encode = encode  # type: ignore[method-assign]
    given = EncodingOptions(vae, precision=precision)
    with pytest.raises(UserError, match=rf"ant/1\.png: its encoding is not finite; {advice}$"):
        prepare(source, tmp_path / "out", Options(image_size=8, skip_broken=True), encoding=given)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "vae"]


def test_the_recipe_goes_to_other_processes(source: Path, vae: Path) -> None:
    found = open_source(source)
    entries = found.listed().entries
    recipe = encoding_recipe(image_recipe(found, entries, SIZE), vae_facts(vae), EncodingOptions(vae, flips=True))
    copy: EncodingRecipe = pickle.loads(pickle.dumps(recipe))
    for one, other in zip(recipe.made(entries), copy.made(entries), strict=True):
        assert not isinstance(one, Exception)
        assert not isinstance(other, Exception)
        assert one.item.shape == (2, 2, 2, 4, 4)
        np.testing.assert_array_equal(one.item, other.item)


def test_killed_and_continued(source: Path, vae: Path, tmp_path: Path, network: Watched) -> None:
    given = EncodingOptions(vae, batch=4, dtype="float16")
    prepare(source, tmp_path / "whole", SIZE, encoding=given)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        Kill(patch, 20)
        prepare(source, tmp_path / "set", SIZE, encoding=given)
    network.shapes.clear()
    prepare(source, tmp_path / "set", SIZE, encoding=given)
    assert 0 < len(network.shapes) < 3
    assert content(tmp_path / "set") == content(tmp_path / "whole")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 5}, "batch was 4 and is now 5"),
        ({"flips": True}, "flips was none and is now paired"),
        ({"vae_range": (0.0, 1.0)}, r"vae_range was \[-1\.0, 1\.0\] and is now \[0\.0, 1\.0\]"),
        ({"dtype": "float16"}, "dtype was float32 and is now float16"),
        ({"vae": "other"}, "vae_sha256 was [0-9a-f]{64} and is now [0-9a-f]{64}"),
    ],
)
def test_other_options_are_refused(
    change: dict[str, Any], message: str, source: Path, vae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"vae": vae, "batch": 4}
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        Kill(patch, 20)
        prepare(source, tmp_path / "set", SIZE, encoding=EncodingOptions(**given))
    if "vae" in change:
        change = {"vae": known_vae(tmp_path / "other", monkeypatch, b"others")}
    with pytest.raises(UserError, match=rf"set\.partial: was begun otherwise: {message}; give the former options"):
        prepare(source, tmp_path / "set", SIZE, encoding=EncodingOptions(**{**given, **change}))
    with pytest.raises(UserError, match="was begun otherwise: "):
        prepare(source, tmp_path / "set", SIZE)


def test_an_autoencoder_that_changes_meanwhile(
    source: Path, vae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: Watched
) -> None:
    def load(folder: Path) -> Watched:
        (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"new")
        return network

    monkeypatch.setattr("diffussm.vae.autoencoder._load", load)
    facts = vae_facts(vae)
    (vae / "diffusion_pytorch_model.safetensors").write_bytes(b"other")
    monkeypatch.setattr("diffussm.data.preparing.prepare.vae_facts", lambda _: facts)
    with pytest.raises(UserError, match=r"vae: the autoencoder has changed meanwhile; give the command again"):
        prepare(source, tmp_path / "out", SIZE, encoding=EncodingOptions(vae))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "vae"]


def test_devices_of_one_kind(source: Path, vae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter(("NVIDIA H100", "NVIDIA A100"))  # of rank zero, which plans, and of a process that encodes
    monkeypatch.setattr("diffussm.data.preparing.encoding._device_name", lambda _: next(names))
    with pytest.raises(
        UserError, match=r"^this process has NVIDIA A100, rank zero NVIDIA H100: take devices of one kind"
    ):
        prepare(source, tmp_path / "out", SIZE, encoding=EncodingOptions(vae))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "vae"]


def test_a_batch_that_does_not_fit(source: Path, vae: Path, network: Watched, tmp_path: Path) -> None:
    def encode(images: torch.Tensor) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    network.encode = encode  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"vae: .* a batch of this size does not fit into the memory of .*; reduce the"):
        prepare(source, tmp_path / "out", SIZE, encoding=EncodingOptions(vae))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "vae"]


def test_many_images_are_decoded_ahead(tmp_path: Path, vae: Path) -> None:
    """More batches than are held at a time."""
    for number in range(40):
        save(tmp_path / "in" / f"{number:02d}.png", noise(8, 8, number))
    prepare(tmp_path / "in", tmp_path / "out", SIZE, encoding=EncodingOptions(vae, batch=3))
    pixels = np.stack([noise(8, 8, number).transpose(2, 0, 1) for number in range(40)])
    found = PreparedLatents(tmp_path / "out").stored(np.arange(40))[:, 0]
    np.testing.assert_allclose(found, known_means(pixels, -1, 1), rtol=1e-6, atol=1e-6)
