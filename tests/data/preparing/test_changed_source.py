"""A source that has changed while a data set of it was prepared is noticed, though its files have the same sizes."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffussm.data.latent_sources.detect import open_latents
from diffussm.data.preparing import build as preparing
from diffussm.data.preparing.prepare import prepare
from diffussm.data.preparing.recipe import ImageRecipe, Options
from diffussm.data.sources.base import Found
from diffussm.data.sources.detect import open_source
from diffussm.errors import UserError
from tests.support import latent_files
from tests.support.sources import encoded, noise, pack_zip, save, webp_images, write_lsun, write_tar

OPTIONS = Options(image_size=8)


def bitmaps(folder: Path, level: int) -> Path:
    for number in range(4):
        save(folder / f"{number}.bmp", np.full((9, 9, 3), level, np.uint8))
    return folder


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images of which the first of two shards is prepared."""
    monkeypatch.setattr(preparing, "LEAST_IMAGES", 2)
    monkeypatch.setattr(preparing, "SHARDS", 2)
    source, image = bitmaps(tmp_path / "in", 10), ImageRecipe.image

    def stopping(recipe: ImageRecipe, entry: object) -> object:
        if getattr(entry, "name", "") == "3.bmp":
            raise KeyboardInterrupt
        return image(recipe, entry)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ImageRecipe, "image", stopping)
        prepare(source, tmp_path / "out", OPTIONS)
    return source


def test_other_images_of_the_same_sizes_are_refused(begun: Path, tmp_path: Path) -> None:
    bitmaps(begun, 200)
    with pytest.raises(UserError, match="begun otherwise: the source has changed: files have another time of modif"):
        prepare(begun, tmp_path / "out", OPTIONS)


def test_the_same_source_is_continued(begun: Path, tmp_path: Path) -> None:
    for path in begun.iterdir():
        os.utime(path, ns=(0, path.stat().st_mtime_ns))
    begun.rename(tmp_path / "moved")
    times = [path.stat().st_mtime_ns for path in (tmp_path / "out.partial" / "set").iterdir()]
    prepare(tmp_path / "moved", tmp_path / "out", OPTIONS)
    assert set(times) < {path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}


def test_a_plan_of_before_is_continued(begun: Path, tmp_path: Path) -> None:
    """It does not say when files were changed."""
    path = tmp_path / "out.partial" / "plan.json"
    plan = json.loads(path.read_text())
    del plan["modified"]
    path.write_text(json.dumps(plan))
    assert prepare(begun, tmp_path / "out", OPTIONS).count == 4


def test_the_digest_of_the_listing_is_as_before(tmp_path: Path) -> None:
    """It does not depend on when files were changed."""
    found = []
    for number in range(2):
        source = bitmaps(tmp_path / "in", 10)
        os.utime(source / "0.bmp", ns=(number, number))
        found.append(prepare(source, tmp_path / str(number), OPTIONS).source.listing_sha256)
    assert found[0] == found[1]


def images(path: Path) -> Found:
    return open_source(path).listed()


def latents(path: Path) -> Found:
    return open_latents(path, (0.0, 1.0)).listed()


LATENTS = latent_files.latents(3)
SOURCES: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Found]]] = {
    "folder": (lambda root: bitmaps(root, 1), images),
    "tar": (
        lambda root: write_tar(root / "a.tar", {"0.png": encoded(Image.fromarray(noise(9, 9)))}),
        images,
    ),
    "lsun": (lambda root: write_lsun(root, webp_images(1)), images),
    "fast-dit": (lambda root: latent_files.fast_dit(root, LATENTS, [0, 0, 1]), latents),
    "lightningdit": (lambda root: latent_files.lightningdit(root, LATENTS, LATENTS, [0, 0, 1], 1), latents),
    "edm2": (lambda root: latent_files.edm2(root, np.stack([LATENTS, np.abs(LATENTS)], 1), [0, 0, 1]), latents),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_later_time_is_noticed_in_each_source_that_states_no_crc(name: str, tmp_path: Path) -> None:
    make, listed = SOURCES[name]
    (tmp_path / "in").mkdir()
    path = make(tmp_path / "in")
    before = listed(path)
    assert listed(path) == before
    for file in [path] if path.is_file() else path.rglob("*"):
        if file.suffix in (".bmp", ".tar", ".mdb", ".npy", ".safetensors"):
            os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    after = listed(path)
    assert after.modified != before.modified
    assert after.entries == before.entries


def test_a_zip_whose_time_is_another_is_the_same(tmp_path: Path) -> None:
    """It states the CRCs of its members, and a copy on another disk may be continued."""
    path = pack_zip(tmp_path / "a.zip", {"a.png": encoded(Image.fromarray(noise(9, 9)))})
    before = images(path)
    os.utime(path, ns=(0, 0))
    assert images(path) == before
