"""A data set whose preparation was stopped anywhere is continued by the same call, and has the same bytes."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from diffussm.data.preparing import build as preparing
from diffussm.data.preparing.prepare import prepare
from diffussm.data.preparing.recipe import ImageRecipe, Options
from diffussm.errors import UserError
from diffussm.store import writing
from tests.data.preparing.test_prepare import content
from tests.support.sources import class_folders, noise, save

OPTIONS = Options(image_size=8, skip_broken=True)


class Killed(BaseException):
    """Ends a call as if the process were killed: nothing more is done to the disk."""


class Kill:
    """Kills what runs before its n-th change of the disk, and counts the changes."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int | None):
        self.count, self.at = 0, at
        for module, name in ((os, "replace"), (os, "fsync"), (os, "rename"), (Path, "mkdir"), (shutil, "rmtree")):
            patch.setattr(module, name, self._counted(getattr(module, name)))
        patch.setattr(writing, "_remove", self._counted(writing._remove))

    def _counted(self, change: Any) -> Any:
        def counted(*args: Any, **options: Any) -> Any:
            self.count += 1
            if self.at is not None and self.count >= self.at:
                raise Killed
            return change(*args, **options)

        return counted


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Seven images, one of them broken, for three shards."""
    monkeypatch.setattr(preparing, "LEAST_IMAGES", 3)
    monkeypatch.setattr(preparing, "SHARDS", 3)
    class_folders(tmp_path / "in", per_class=2)
    save(tmp_path / "in" / "cat" / "x.png", noise(9, 9))
    (tmp_path / "in" / "bee" / "0.png").write_bytes(b"")
    return tmp_path / "in"


def test_killed_at_any_change_of_the_disk(source: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        changes = Kill(patch, None)
        prepare(source, tmp_path / "whole", OPTIONS)
    expected = content(tmp_path / "whole")
    assert len([name for name in expected if name.startswith("pixels")]) == 3
    assert changes.count > 20
    for at in range(1, changes.count + 1):
        out = tmp_path / "set"
        with pytest.MonkeyPatch.context() as patch:
            Kill(patch, at)
            with pytest.raises(Killed):
                prepare(source, out, OPTIONS)
        prepare(source, out, OPTIONS)
        assert content(out) == expected
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "set", "whole"], at
        shutil.rmtree(out)


def stop_at_the_last(source: Path, out: Path, options: Options = OPTIONS) -> None:
    """Prepare all shards but the last."""
    image = ImageRecipe.image

    def stopping(recipe: ImageRecipe, entry: Any) -> Any:
        if entry.name == "cat/x.png":
            raise KeyboardInterrupt
        return image(recipe, entry)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ImageRecipe, "image", stopping)
        prepare(source, out, options)


def test_finished_shards_are_not_made_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stop_at_the_last(source, tmp_path / "out")
    assert f"2 of 3 shards are finished and kept in {tmp_path}/out.partial; the same command" in capsys.readouterr().err
    read: list[str] = []
    image = ImageRecipe.image
    monkeypatch.setattr(ImageRecipe, "image", lambda recipe, entry: read.append(entry.name) or image(recipe, entry))
    (tmp_path / "out.partial" / "set" / "pixels-00000.npy").write_bytes(b"cut short")
    prepare(source, tmp_path / "out", OPTIONS)
    assert read == ["ant/0.png", "ant/1.png", "bee/0.png", "cat/x.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(image_size=9, skip_broken=True), r"image_size was 8 and is now 9; give the former options"),
        (Options(image_size=8, channels=1, skip_broken=True), r"channels was 3 and is now 1"),
        (Options(image_size=8, labels="none", skip_broken=True), r"the labels or the images that are selected differ"),
        (Options(image_size=8, limit=6, skip_broken=True), r"the labels or the images that are selected differ"),
    ],
)
def test_other_options_are_refused(source: Path, tmp_path: Path, options: Options, message: str) -> None:
    stop_at_the_last(source, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(UserError, match=message):
        prepare(source, tmp_path / "out", options)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def test_a_source_that_has_changed_is_refused(source: Path, tmp_path: Path) -> None:
    stop_at_the_last(source, tmp_path / "out")
    save(source / "ant" / "new.png", noise(9, 9))
    with pytest.raises(UserError, match=r"out\.partial: was begun otherwise: the source has changed"):
        prepare(source, tmp_path / "out", OPTIONS)


def test_what_is_done_with_broken_images_may_change(source: Path, tmp_path: Path) -> None:
    """A shard in which an image was left out is made again when that is not wanted any more."""
    stop_at_the_last(source, tmp_path / "out")
    with pytest.raises(UserError, match=r"bee/0\.png: is empty; .*; 2 of 3 shards are finished and kept"):
        prepare(source, tmp_path / "out", Options(image_size=8))
    (source / "bee" / "0.png").write_bytes((source / "bee" / "1.png").read_bytes())
    with pytest.raises(UserError, match="the source has changed"):  # its size differs
        prepare(source, tmp_path / "out", Options(image_size=8))


def test_an_error_in_a_later_shard_keeps_those_before(source: Path, tmp_path: Path) -> None:
    (source / "cat" / "x.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"x\.png: .*; 2 of 3 shards are finished and kept in .*out\.partial$"):
        (source / "bee" / "0.png").write_bytes((source / "bee" / "1.png").read_bytes())
        prepare(source, tmp_path / "out", Options(image_size=8))
    manifest = prepare(source, tmp_path / "out", OPTIONS)
    assert manifest.count == 6


def test_what_exists_is_never_overwritten(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=r"out: already exists"):
        prepare(source, tmp_path / "out", OPTIONS)
    (tmp_path / "new.partial").mkdir()
    (tmp_path / "new.partial" / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"new\.partial: exists, and holds no plan"):
        prepare(source, tmp_path / "new", OPTIONS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "new.partial", "out"]
    with pytest.raises(UserError, match="lies in the source"):
        prepare(source, source / "out", OPTIONS)
