"""ImageNet in small: from crops in its layout to latents, runs and figures of decoded samples."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffussm.data.prepared.manifest import read_manifest
from diffussm.store import records
from tests.support import imagenet_tree
from tests.support.latent_files import fast_dit
from tests.support.sources import encoded, write_lsun

ARMS = ("M = 2, P = 1", "M = 1, P = 2", "M = 1, P = 1")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree, its images and latents, an extractor and a reference."""
    folder = tmp_path_factory.mktemp("imagenet")
    imagenet_tree.write_tree(folder)
    imagenet_tree.prepare(folder)
    return folder


def launched(tree: Path, base: Path) -> list[records.Record]:
    """Launch the grid and make its figures; return the records, after looking at samples and figures."""
    arguments = f"--grid hourglass_vs_patch --base {base.name} --seeds 1"
    imagenet_tree.run(tree, f"python ablations/launch.py {arguments}")
    imagenet_tree.run(tree, "python reports/make_figures.py --out out")
    results = (tree / "out/hourglass_vs_patch" / base.stem / "results.md").read_text()
    assert all(f"| {arm} | 1 done |" in results for arm in ARMS)
    found = []
    for path in sorted((tree / "runs").glob(f"{base.stem}-*/milestones/*/*/record.json")):
        record = records.read(path)
        assert record is not None
        with np.load(path.with_name("samples.npz")) as samples:
            assert samples["arr_0"].shape == (40, 32, 32, 3)
        with Image.open(path.with_name("samples.png")) as sheet:
            assert sheet.width >= 4 * 32
        found.append(record)
    assert len(found) == 2 * len(ARMS)
    assert all(np.isfinite(list(record.metrics.values())).all() for record in found)
    return found


def test_from_the_tree_to_figures(tree: Path) -> None:
    manifest = read_manifest(tree / "latents")
    assert (manifest.kind, manifest.flips) == ("mean-std", "paired")
    assert manifest.classes == tuple(sorted(imagenet_tree.WNIDS.values()))
    found = launched(tree, imagenet_tree.write_base(tree, "tiny-latents", "latents"))
    assert manifest.latents
    assert {record.key.vae_sha256 for record in found} == {manifest.latents.vae_sha256}
    results = (tree / "out/hourglass_vs_patch/tiny-latents/results.md").read_text()
    assert "other data" not in results


@pytest.mark.slow
def test_without_classes_from_an_lmdb(tree: Path) -> None:
    """LSUN's form: WebP images in an LMDB."""
    crops = {}
    for path in sorted((tree / "train").rglob("*.JPEG")):
        with Image.open(path) as crop:
            crops[path.name.encode()] = encoded(crop.convert("RGB"), "WEBP", quality=75)
    write_lsun(tree / "church_outdoor_train_lmdb", crops)
    source = "church_outdoor_train_lmdb"
    imagenet_tree.run(tree, f"diffussm data prepare {source} church --image-size 32 --vae vae --flips --batch 16")
    extractor = "--extractor images-cnn.safetensors"
    imagenet_tree.run(tree, f"diffussm reference build {source} church.npz --image-size 32 {extractor}")
    manifest = read_manifest(tree / "church")
    assert (manifest.count, manifest.classes, manifest.transform) == (240, (), "lsun 32")
    base = imagenet_tree.write_base_without_classes(tree, "church", "church", "church.npz")
    assert len(launched(tree, base)) == 6


@pytest.mark.slow
def test_imported_fast_dit_features(tree: Path) -> None:
    manifest = read_manifest(tree / "latents")
    stored = np.load(tree / "latents" / manifest.shards[0].arrays["latents"].file)
    labels = np.load(tree / "latents" / "labels.npy")
    fast_dit(tree / "features", stored[:, 0, 0] * np.float32(0.18215), labels.tolist())
    imagenet_tree.run(tree, "diffussm data import features imported --vae vae")
    found = launched(tree, imagenet_tree.write_base(tree, "imported", "imported", flip=False))
    assert all("one posterior sample" in str(record.provenance) for record in found)
