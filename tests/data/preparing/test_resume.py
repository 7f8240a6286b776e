"""A data set whose preparation was stopped anywhere is continued by the same call, and has the same bytes."""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from diffussm.data.preparing import build as preparing
from diffussm.data.preparing.lock import locked
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
        for module, names in ((os, ("replace", "fsync", "rename")), (Path, ("mkdir", "unlink", "rmdir"))):
            for name in names:
                patch.setattr(module, name, self._counted(getattr(module, name)))
        patch.setattr(shutil, "rmtree", self._counted(shutil.rmtree))
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


def test_killed_at_any_change_of_the_disk(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # this machine stays
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
    (tmp_path / "dangling").symlink_to("nothing")
    with pytest.raises(UserError, match="dangling: is a link to nothing"):
        prepare(source, tmp_path / "dangling", OPTIONS)
    source.rename(tmp_path / "q.partial")
    with pytest.raises(UserError, match=r"q: would be made in .*q\.partial, where the source is; choose another name"):
        prepare(tmp_path / "q.partial", tmp_path / "q", OPTIONS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "new.partial", "out", "q.partial"]
    assert not (tmp_path / "q.partial" / "lock").exists()


@pytest.mark.parametrize("out", ["", ".", "/"])
def test_a_place_without_a_name(source: Path, out: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="exists; choose the name of a folder that is to be made"):
        prepare(source, Path(out), OPTIONS)


def test_one_process_at_a_time(source: Path, tmp_path: Path) -> None:
    """Another one leaves all as it is, and the next one continues."""
    stop_at_the_last(source, tmp_path / "out")
    (tmp_path / "out.partial" / "set" / ".pixels-00002.npy.abcd.tmp").touch()
    before = sorted(tmp_path.rglob("*"))
    with locked(tmp_path / "out.partial"), pytest.raises(UserError, match=r"out\.partial: another process prepares"):
        prepare(source, tmp_path / "out", OPTIONS)
    assert sorted(tmp_path.rglob("*")) == before
    prepare(source, tmp_path / "out", OPTIONS)
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".tmp"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_a_temporary_file_of_a_killed_process_is_not_published(source: Path, tmp_path: Path) -> None:
    image = ImageRecipe.image

    def leaving(recipe: ImageRecipe, entry: Any) -> Any:
        (tmp_path / "out.partial" / "set" / ".pixels-00002.npy.abcd.tmp").touch()
        return image(recipe, entry)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageRecipe, "image", leaving)
        prepare(source, tmp_path / "out", OPTIONS)
    assert not list((tmp_path / "out").glob(".*"))


def test_a_file_system_without_locks(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOSYS, "no locks")

    monkeypatch.setattr(fcntl, "flock", none)
    assert prepare(source, tmp_path / "deep" / "out", OPTIONS).count == 6
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["out"]
