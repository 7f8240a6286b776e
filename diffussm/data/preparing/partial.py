"""A data set that is being prepared: `OUT.partial`, which another call of the same command continues.

    plan.json            what is prepared, from what, by which versions; another plan is refused
    shards/00000.json    a shard that is finished, written after its file
    lock                 locked by the process that works at it, of several by rank zero (`lock`)
    failed               exists once one of several processes has failed, so that the others stop
    set/                 the files of the data set; renamed to OUT at the end

A shard is made of consecutive images of the plan, and depends on nothing else.
"""

import contextlib
import os
import shutil
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from diffussm.config.schema import Count, Positive
from diffussm.data.prepared.manifest import MANIFEST, SHA256, Manifest, StoredFile, read_manifest
from diffussm.data.prepared.writer import Content
from diffussm.data.preparing.lock import LOCK
from diffussm.errors import UserError
from diffussm.store.reading import StoredModel, read_model
from diffussm.store.writing import write_atomically

PLAN, FAILED = "plan.json", "failed"
_CHANGES = {  # what it says of fields that are digests
    "source": "the source has changed",
    "modified": "the source has changed: files have another time of modification",
    "selection": "the labels or the images that are selected differ",
}


class Plan(StoredModel):
    """What is prepared: all that the bytes of the shards depend on."""

    repair: ClassVar[str] = "delete the folder to begin anew"

    kind: str = Field(description="of the source")
    source: str = Field(pattern=SHA256, description="digest of the listing")
    modified: str = Field("", description="digest of when its files were changed; empty: their content is listed")
    selection: str = Field(pattern=SHA256, description="digest of the images to take, in order, with their labels")
    images: Positive
    channels: Positive
    image_size: Positive
    transform: str
    classes: tuple[str, ...]
    images_per_shard: Positive
    making: dict[str, str] = Field({}, description="of latents: what else their bytes depend on, by name")
    views: Positive = Field(1, description="how often an image is stored, each with its own SHA-256")
    versions: dict[str, str]

    @property
    def shards(self) -> int:
        return -(-self.images // self.images_per_shard)

    def images_of(self, shard: int) -> range:
        """Return the indices of the images of a shard."""
        return range(shard * self.images_per_shard, min((shard + 1) * self.images_per_shard, self.images))

    def differences(self, former: "Plan") -> list[str]:
        """Return the fields in which a former plan differs; one of before does not say when files were changed."""
        fields = [name for name in Plan.model_fields if getattr(former, name) != getattr(self, name)]
        return [name for name in fields if name != "modified" or former.modified]

    def is_of(self, manifest: Manifest) -> bool:
        """Return whether the data set was made by this plan, as far as its manifest says."""
        m = manifest
        made = (m.source.kind, m.source.listing_sha256, m.channels, m.image_size, m.transform, m.classes, m.versions)
        asked = (self.kind, self.source, self.channels, self.image_size, self.transform, self.classes, self.versions)
        exact = m.latents and m.latents.model_copy(update={"mean_rounding": None, "std_rounding": None})
        making = Content(m.kind, (m.channels, m.image_size, m.image_size), m.transform, m.flips, exact).making
        return made == asked and making == self.making and m.views == self.views and m.count <= self.images


class BrokenImage(StoredModel):
    """An image that was left out."""

    index: Count = Field(description="of the plan")
    reason: str
    detail: str


class ShardRounding(StoredModel):
    """The error of storing some values of a shard as float16."""

    largest: float
    squares: float = Field(description="sum of the squared errors")
    values: Positive


class FinishedShard(StoredModel):
    """A shard whose file is on disk."""

    repair: ClassVar[str] = "delete it to have the shard made again"

    images: Count
    file: StoredFile | None = Field(description="none: all its images are broken")
    bytes: Count
    image_sha256: str = Field(pattern=r"^([0-9a-f]{64})*$", description="of the images, one after the other")
    broken: tuple[BrokenImage, ...]
    notes: dict[str, Count]
    largest: Count = Field(description="pixels of the largest file that was taken")
    rounding: tuple[ShardRounding, ...] = Field((), description="of float16: of means or samples, then of deviations")
    max_pixels: Positive = Field(description="that a file might have")

    def is_as_asked(self, skip_broken: bool, max_pixels: int) -> bool:
        """Return whether it would be made the same under these options."""
        return self.largest <= max_pixels and (not self.broken or (skip_broken and self.max_pixels == max_pixels))


class PartialSet:
    """The folder `OUT.partial`, whose lock is held, made for a plan or continued by it.

    Raises UserError if it is of another plan.
    """

    def __init__(self, out: Path, plan: Plan):
        self.out, self.plan = out, plan
        self.path = partial_folder(out)
        self.set = self.path / "set"
        self._check_plan()
        for folder in (self.path, self.set, self.path / "shards"):
            _delete_temporaries(folder)
        (self.path / FAILED).unlink(missing_ok=True)
        write_atomically(self.path / PLAN, plan.model_dump_json(indent=1).encode())
        self.set.mkdir(exist_ok=True)

    def finished(self, number: int) -> FinishedShard | None:
        """Return the shard, if it is finished and its file is there."""
        try:
            shard = read_model(self._record(number), FinishedShard)
            intact = shard.file is None or (self.set / shard.file.file).stat().st_size == shard.bytes
        except (FileNotFoundError, UserError):
            return None
        return shard if intact and len(shard.image_sha256) == 64 * shard.images * self.plan.views else None

    def add(self, number: int, shard: FinishedShard) -> None:
        write_atomically(self._record(number), shard.model_dump_json().encode())

    def recorded(self) -> set[int]:
        """Return the numbers of the shards that seem to be finished."""
        return {int(path.stem) for path in (self.path / "shards").glob("[0-9]*.json")}

    def set_failed(self) -> None:
        """Let the other processes stop."""
        with contextlib.suppress(OSError):
            (self.path / FAILED).touch()

    def has_failed(self) -> bool:
        """Return whether a process has failed."""
        return (self.path / FAILED).exists()

    def publish(self) -> None:
        """Rename the finished set to OUT, and delete the rest."""
        _delete_temporaries(self.set)  # which a process that was killed may have made since
        try:
            os.rename(self.set, self.out)
        except OSError as error:
            raise UserError(f"{self.out}: cannot be made of {self.set}: {error.strerror}") from None
        _delete(self.path)

    def abandon(self) -> str:
        """Delete its content unless it holds a finished shard; return what is kept, "" for nothing."""
        shards = map(self.finished, range(self.plan.shards))
        kept = sum(shard is not None and shard.images > 0 for shard in shards)
        if kept:
            return f"{kept} of {self.plan.shards} shards are finished and kept in {self.path}"
        _delete(self.path)
        return ""

    def _record(self, number: int) -> Path:
        return self.path / "shards" / f"{number:05d}.json"

    def _check_plan(self) -> None:
        try:
            former = read_model(self.path / PLAN, Plan)
        except FileNotFoundError:
            return
        changed = self.plan.differences(former)
        if not changed:
            return
        name = changed[0]
        was, now = getattr(former, name), getattr(self.plan, name)
        if name == "making" and was.keys() == now.keys():
            name = next(key for key in now if now[key] != was[key])
            was, now = was[name], now[name]
        what = _CHANGES.get(name) or f"{name} was {_shown(was)} and is now {_shown(now)}"
        raise UserError(
            f"{self.path}: was begun otherwise: {what}; give the former options, or delete it to begin anew"
        )


def partial_folder(out: Path) -> Path:
    return out.with_name(f"{out.name}.partial")


def check_is_partial(folder: Path) -> None:
    """Raise UserError if something else than a partial set is at its place."""
    if not os.path.lexists(folder) or (folder / PLAN).exists():
        return
    if any(path.name != LOCK and not path.match(f".{PLAN}.*.tmp") for path in folder.iterdir()):
        raise UserError(f"{folder}: exists, and holds no plan of `data prepare`; rename it, or choose another OUT")


def is_published(out: Path, plan: Plan) -> bool:
    """Return whether a process was killed after it had renamed the set to OUT; delete what it left over."""
    folder = partial_folder(out)
    if not (out / MANIFEST).exists() or (folder / "set").exists():
        return False
    try:
        is_same = not plan.differences(read_model(folder / PLAN, Plan))
    except FileNotFoundError:  # it was deleted last
        is_same = plan.is_of(read_manifest(out))
    if is_same:
        _delete(folder)
    return is_same


def _delete(folder: Path) -> None:
    """Delete a partial set but for its lock, its plan last: what a process that is killed leaves can still be told."""
    for inner in ("set", "shards"):
        shutil.rmtree(folder / inner, ignore_errors=True)
    (folder / FAILED).unlink(missing_ok=True)
    (folder / PLAN).unlink(missing_ok=True)


def _delete_temporaries(folder: Path) -> None:
    for temporary in folder.glob(".*.tmp"):
        temporary.unlink(missing_ok=True)


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
