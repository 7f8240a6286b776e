"""ImageNet in each of its layouts: the labels are those of the sorted wnids."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from diffussm.data.prepared.reader import PreparedImages
from diffussm.data.preparing.prepare import prepare
from diffussm.data.preparing.recipe import Options
from diffussm.data.sources.detect import open_source
from diffussm.errors import UserError
from tests.support.sources import noise, pack_tar, save

IDS = {1: "n02119789", 2: "n02100735", 3: "n01440764"}  # as in the devkit: not in the order of the wnids
TRUTH = [3, 1, 2, 1, 3]  # of the validation images, from 1
SORTED = ("n01440764", "n02100735", "n02119789")
LABELS = [0, 2, 1, 2, 0]


def write_validation(folder: Path, numbers: tuple[int, ...] = (1, 2, 3, 4, 5)) -> Path:
    for number in numbers:
        path = save(folder / "x.png", noise(10, 12, number))
        path.rename(folder / f"ILSVRC2012_val_{number:08d}.JPEG")  # a PNG of that name: the real set has one
    return folder


def write_devkit(folder: Path) -> Path:
    """With a synset that is no class: it has children."""
    fields = [(name, "O") for name in ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children")]
    rows = [(float(number), wnid, "a, b", "c", 0.0) for number, wnid in IDS.items()]
    rows.append((4.0, "n00001740", "entity", "that which is", 3.0))
    (folder / "data").mkdir(parents=True)
    savemat(folder / "data" / "meta.mat", {"synsets": np.array(rows, dtype=fields).reshape(-1, 1)})
    (folder / "data" / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{i}\n" for i in TRUTH))
    return folder


def write_solution(path: Path) -> Path:
    lines = [f"ILSVRC2012_val_{number:08d},{IDS[i]} 1 2 3 4 {IDS[i]} 5 6 7 8" for number, i in enumerate(TRUTH, 1)]
    path.write_text("\n".join(["ImageId,PredictionString", *lines[::-1], ""]))
    return path


@pytest.mark.parametrize("kind", ["folder", "archive", "solution"])
@pytest.mark.parametrize("near", [True, False])
def test_flat_validation_set(tmp_path: Path, kind: str, near: bool) -> None:
    write_validation(tmp_path / "a" / "val")
    place = tmp_path if near else tmp_path / "far" / "away"
    place.mkdir(parents=True, exist_ok=True)
    if kind == "solution":
        truth = write_solution(place / "LOC_val_solution.csv")
    else:
        truth = write_devkit(place / "ILSVRC2012_devkit_t12")
        if kind == "archive":
            truth = pack_tar(place / "ILSVRC2012_devkit_t12.tar.gz", truth, truth.name)
            shutil.rmtree(place / "ILSVRC2012_devkit_t12")
    source = open_source(tmp_path / "a" / "val", devkit=None if near else truth)
    found = source.listed()
    assert source.kind == "imagenet-val"
    assert found.classes == SORTED
    assert [entry.label for entry in found.entries] == LABELS
    assert source.read(found.entries[0]) == (tmp_path / "a" / "val" / "ILSVRC2012_val_00000001.JPEG").read_bytes()


def test_a_part_of_the_validation_set_has_the_labels_of_its_numbers(tmp_path: Path) -> None:
    write_validation(tmp_path / "val", (2, 5))
    write_devkit(tmp_path / "ILSVRC2012_devkit_t12")
    found = open_source(tmp_path / "val").listed()
    assert [entry.label for entry in found.entries] == [2, 0]


@pytest.mark.parametrize("inner", ["", "ILSVRC/Data/CLS-LOC"])
def test_trees(tmp_path: Path, inner: str) -> None:
    base = tmp_path / inner
    for wnid in SORTED:
        save(base / "train" / wnid / f"{wnid}_1.png", noise(9, 9))
    write_validation(base / "val")
    write_solution(tmp_path / "LOC_val_solution.csv")
    train = open_source(tmp_path)
    assert (train.kind, train.path) == ("imagenet", base / "train")
    assert train.listed().classes == SORTED
    assert [entry.label for entry in open_source(tmp_path, "val").listed().entries] == LABELS
    assert open_source(base / "train").kind == "imagenet"
    with pytest.raises(UserError, match=r"test: no such folder; choose another with --split"):
        open_source(tmp_path, "test")
    shutil.rmtree(base / "val")
    for number, label in enumerate(LABELS):  # sorted into folders, as valprep.sh does
        save(base / "val" / SORTED[label] / f"{number}.png", noise(9, 9))
    assert open_source(tmp_path, "val").listed().classes == SORTED


def test_train_and_validation_set_have_the_same_labels_when_prepared(tmp_path: Path) -> None:
    for wnid in SORTED:
        save(tmp_path / "in" / "train" / wnid / "1.png", noise(9, 9))
    write_validation(tmp_path / "in" / "val")
    write_devkit(tmp_path / "in" / "ILSVRC2012_devkit_t12")
    (tmp_path / "names").write_text("n02119789 kit fox, Vulpes macrotis\nn01440764 tench, Tinca tinca\n")
    options = {"image_size": 8, "classes": tmp_path / "names"}
    train = prepare(tmp_path / "in", tmp_path / "t", Options(**options))
    val = prepare(tmp_path / "in", tmp_path / "v", Options(**options, split="val"))
    assert train.classes == val.classes == ("kit fox, Vulpes macrotis", "tench, Tinca tinca")
    assert list(PreparedImages(tmp_path / "t").labels) == [1, 0]
    assert list(PreparedImages(tmp_path / "v").labels) == [1, 0, 0, 1]


def test_what_is_missing_or_damaged(tmp_path: Path) -> None:
    val = write_validation(tmp_path / "a" / "b" / "c" / "d" / "val")
    with pytest.raises(UserError, match=r"its classes are in ILSVRC2012_devkit_t12\.tar\.gz, or .* --labels none"):
        open_source(val)
    assert open_source(val, labelled=False).listed().classes == ()
    devkit = write_devkit(tmp_path / "kit")
    truth = devkit / "data" / "ILSVRC2012_validation_ground_truth.txt"
    for content, message in [
        ("3\n1\n2\n1\n", r"val_00000005\.JPEG: .*kit says nothing of this image"),
        ("3\n1\n4\n1\n3\n", r"ground_truth\.txt: line 3: 4 is no class"),
        ("3\n1\n\x1b\n1\n3\n", r"ground_truth\.txt: line 3: .* is no class"),
    ]:
        truth.write_text(content)
        with pytest.raises(UserError, match=message):
            open_source(val, devkit=devkit).listed()
    for content in (b"", b"MATLAB 5.0 MAT-file" + bytes(200), (devkit / "data" / "meta.mat").read_bytes()[:300]):
        (devkit / "data" / "meta.mat").write_bytes(content)
        with pytest.raises(UserError, match=r"kit: data/meta\.mat: is damaged, or not of ILSVRC 2012"):
            open_source(val, devkit=devkit).listed()
    (devkit / "data" / "meta.mat").unlink()
    with pytest.raises(UserError, match=r"kit/data/meta\.mat: no such file"):
        open_source(val, devkit=devkit).listed()
    packed = pack_tar(tmp_path / "kit.tar.gz", devkit, "kit")
    with pytest.raises(UserError, match=r"kit\.tar\.gz: holds no data/meta\.mat; needed is"):
        open_source(val, devkit=packed).listed()
    (tmp_path / "s.csv").write_text("ImageId,PredictionString\nILSVRC2012_val_00000001,cat\n")
    with pytest.raises(UserError, match=r"s\.csv: line 2: expected `ILSVRC2012_val_00000001,n01751748"):
        open_source(val, devkit=tmp_path / "s.csv").listed()
    save(tmp_path / "flat" / "a.png", noise(4, 4))
    with pytest.raises(UserError, match=r"--devkit .*: .*flat is not ImageNet's flat validation set"):
        open_source(tmp_path / "flat", devkit=devkit)


def test_what_would_not_be_read_of_the_validation_set(tmp_path: Path) -> None:
    val, devkit = write_validation(tmp_path / "val"), write_devkit(tmp_path / "kit")
    with pytest.raises(UserError, match=r"--devkit .*kit: not used: the classes of .*val come from --labels"):
        open_source(val, devkit=devkit, labelled=False)
    with pytest.raises(UserError, match=r"val: --split train: this is ImageNet's flat validation set"):
        open_source(val, "train", devkit)
    assert open_source(val, "val", devkit).listed().classes == tuple(SORTED)
