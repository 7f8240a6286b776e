"""Sets that several processes wrote: images added twice are left out, and those that are missing are noticed."""

from pathlib import Path

import numpy as np
import pytest

from diffussm.data.latent_sources import padding
from diffussm.data.latent_sources.detect import open_latents
from diffussm.data.latent_sources.padding import ADDED
from diffussm.data.sources.base import Found
from diffussm.errors import UserError
from tests.support import latent_files as files


def lightningdit(root: Path, labels: list[int], ranks: int, seed: int = 0) -> Path:
    count = len(labels)
    return files.lightningdit(root, files.latents(count, seed=seed), files.latents(count, seed=99), labels, ranks)


def names(found: Found) -> list[str]:
    return [entry.name for entry in found.entries]


@pytest.mark.parametrize("labels", [[0, 0, 0, 1, 1, 2, 2], [0] * 7])
@pytest.mark.parametrize(("ranks", "added"), [(1, 0), (2, 1), (3, 2), (4, 1), (5, 3), (7, 0)])
def test_lightningdit_duplicates(tmp_path: Path, labels: list[int], ranks: int, added: int) -> None:
    """The labels need not tell them: a set may have one class."""
    found = open_latents(lightningdit(tmp_path, labels, ranks)).listed()
    assert len(found.entries) == 7
    assert found.skipped == ({ADDED: added} if added else {})
    of_rank = [sum(f"rank{rank:02d}" in name for name in names(found)) for rank in range(ranks)]
    assert of_rank == [len(range(rank, 7, ranks)) for rank in range(ranks)]
    assert [entry.label for entry in found.entries] == [labels[i] for r in range(ranks) for i in range(r, 7, ranks)]


def test_another_image_of_the_first_class_is_no_duplicate(tmp_path: Path) -> None:
    found = open_latents(lightningdit(tmp_path, [0] * 6, 3)).listed()
    assert (len(found.entries), found.skipped) == (6, {})


def test_the_number_of_images_settles_it(tmp_path: Path) -> None:
    lightningdit(tmp_path, [0, 0, 0, 1, 1, 2, 2], 4)
    assert open_latents(tmp_path, images=6).listed().skipped == {ADDED: 2}
    assert open_latents(tmp_path, images=8).listed().skipped == {}
    with pytest.raises(UserError, match="holds 8 latents, of 9 images that 4 processes encoded; --images N says"):
        open_latents(tmp_path, images=9).listed()
    with pytest.raises(UserError, match="holds 8 latents, of 4 images that 4 processes encoded"):
        open_latents(tmp_path, images=4).listed()


def test_imagenets_number_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(padding, "IMAGENET_CLASSES", 3)
    monkeypatch.setattr(padding, "IMAGENET_TRAIN", 7)
    assert open_latents(lightningdit(tmp_path / "lit", [0, 0, 0, 1, 1, 2, 2], 4)).listed().skipped == {ADDED: 1}
    files.fast_dit(tmp_path / "fast", files.latents(6), [0, 0, 1, 1, 2, 2])
    with pytest.raises(UserError, match=r"holds 6 of 7 images' latents: extract_features\.py counts from 0 in each"):
        open_latents(tmp_path / "fast").listed()
    assert len(open_latents(tmp_path / "fast", images=6).listed().entries) == 6


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("latents_rank01_shard000", r"latents_rank01_shard000\.safetensors: is missing"),
        ("latents_rank02_shard001", r"rank 2 has 3 latents and rank 0 5, though all have equally many: shards are mis"),
    ],
)
def test_a_shard_is_missing(tmp_path: Path, gone: str, message: str) -> None:
    lightningdit(tmp_path, [0] * 15, 3)
    (tmp_path / f"{gone}.safetensors").unlink()
    with pytest.raises(UserError, match=message):
        open_latents(tmp_path).listed()


def test_several_ranks_of_fast_dit(tmp_path: Path) -> None:
    """As DiC's: the names end in the rank, and the last latent is that of the first image once more."""
    values, labels = files.latents(7), [0, 0, 0, 1, 1, 2, 2]
    values, labels = values[[*range(7), 0]], [*labels, 0]
    stems = [f"{step}_x{step + 5}_{rank}" for step in range(2) for rank in range(4)]
    found = open_latents(files.fast_dit(tmp_path, values, labels, stems)).listed()
    assert names(found) == stems[:7]
    assert found.skipped == {ADDED: 1}
    assert [entry.label for entry in found.entries] == [0, 0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("images", [None, 12])
def test_numbered_files_of_fast_dit_with_duplicates(tmp_path: Path, images: int | None) -> None:
    """Several ranks that count through: the last files are draws of the first images again."""
    values = files.latents(12)
    again = values[:2] + np.float32(0.01) * files.latents(2, seed=1)
    files.fast_dit(tmp_path, np.concatenate([values, again]), [0] * 5 + [1] * 4 + [2] * 3 + [0, 0])
    found = open_latents(tmp_path, images=images).listed()
    assert [entry.name for entry in found.entries] == list(map(str, range(12)))
    assert found.skipped == {ADDED: 2}


def test_overwritten_files_of_fast_dit(tmp_path: Path) -> None:
    files.fast_dit(tmp_path, files.latents(4), [0, 0, 1, 1])
    with pytest.raises(
        UserError, match="files overwrite each other, and a feature may then carry the label of another"
    ):
        open_latents(tmp_path, images=16).listed()
    with pytest.raises(UserError, match="holds 4 latents, of 3 images"):
        open_latents(tmp_path, images=3).listed()


def test_files_of_fast_dit_in_no_order_of_classes(tmp_path: Path) -> None:
    files.fast_dit(tmp_path, files.latents(3), [0, 2, 1])
    with pytest.raises(UserError, match=r"the label falls from 2 in 1\.npy to 1 in 2\.npy; extract_features\.py takes"):
        open_latents(tmp_path).listed()


@pytest.mark.parametrize("folder", ["features", "labels"])
def test_pairs_of_fast_dit(tmp_path: Path, folder: str) -> None:
    files.fast_dit(tmp_path, files.latents(3), [0, 1, 2])
    (tmp_path / f"imagenet256_{folder}" / "1.npy").unlink()
    with pytest.raises(UserError, match=rf"1\.npy: has no partner in .*_{folder}; latents and labels"):
        open_latents(tmp_path).listed()


def test_a_missing_number_of_fast_dit(tmp_path: Path) -> None:
    files.fast_dit(tmp_path, files.latents(3), [0, 1, 2], ["0", "1", "3"])
    with pytest.raises(UserError, match=r"2\.npy is missing; if so many images are all, say so by --images N"):
        open_latents(tmp_path).listed()
    assert len(open_latents(tmp_path, images=3).listed().entries) == 3
