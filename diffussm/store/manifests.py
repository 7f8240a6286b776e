"""The manifest of each launched grid: `runs/grids/<grid>-<base>.<n>.json`. The one with the highest number is in force;
none is ever modified.

A launch merges its requests into the newest and adds the next number by a hard link: of two launches at once, one
succeeds, and the other merges into its manifest.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from diffussm.config import base_name
from diffussm.errors import UserError, unknown
from diffussm.store.names import Name, child
from diffussm.store.reading import StoredModel, read_model
from diffussm.store.records import KeyDigests
from diffussm.store.writing import to_json, write_once


class Entry(StoredModel):
    """A run of a grid."""

    arm: str
    levels: dict[str, str] = Field(description="axis to level")
    overrides: dict[str, Any] = Field(description="config key to value")
    seed: int
    run_id: Name
    request: Name = Field(description="digest")
    steps: int
    milestones: tuple[int, ...]
    key: Name = Field(description="digest of the evaluation key")
    key_content: str = Field("", description="of a key whose reference is a file: digest of the key without its name")
    parameters: int
    macs_per_call: int | None
    macs_per_step: int | None
    resources: dict[str, Any]

    @property
    def digests(self) -> KeyDigests:
        """The digests by which its records are found."""
        return KeyDigests(self.key, self.key_content)


class Manifest(StoredModel):
    """All runs that were launched of a grid on a base with the same settings. The base's name is that of a file, whose
    content may change: all runs are of the content that is stated."""

    repair: ClassVar[str] = "restore it, or delete it and launch the grid again"

    grid: Name
    file: str
    base: Name
    base_file: str = Field("", description="path of the base; empty: a base of the package")
    claim: str
    source: str
    command: str
    matched: tuple[str, ...] = Field(description="what is meant to be equal across arms")
    budget: Literal["steps", "macs"]
    control: str | None = Field(None, description="arm whose training MACs all others have, where the budget is MACs")
    settings: dict[str, Any] = Field(description="config key to value, in every arm")
    base_digest: str = Field("", description="of the base as resolved; empty: not stated, by versions of before")
    data_digest: str = Field("", description="of the base's data and reference; empty: not stated")
    runs: tuple[Entry, ...]

    @property
    def states_recipe(self) -> bool:
        """Whether it says which base and data its runs were launched with; manifests of before do not."""
        return bool(self.base_digest and self.data_digest)


@dataclass(frozen=True)
class FoundManifests:
    """The manifests in force, by their paths, and the errors of damaged ones that may match too."""

    manifests: dict[Path, Manifest]
    damaged: tuple[UserError, ...]


def newest(runs: Path) -> list[Path]:
    """Return the manifest in force of each grid on each base, in order of their names."""
    latest: dict[str, tuple[int, Path]] = {}
    for path in sorted((runs / "grids").glob("[!.]*.json")):
        if match := re.fullmatch(r"(.+)\.(\d+)\.json", path.name):
            latest[match[1]] = max(latest.get(match[1], (0, path)), (int(match[2]), path))
    return [path for _, path in latest.values()]


def find(runs: Path, grid: str | None, base: str | None) -> FoundManifests:
    """Return the manifests of that grid and base (None: of any); a base may be given as the path of its file."""
    kept, damaged = {}, []
    base = base and base_name(base)
    for path in newest(runs):
        try:
            manifest = read_model(path, Manifest)
        except UserError as damage:
            if _may_be(path, grid, base):
                damaged.append(damage)
        else:
            if grid in (None, manifest.grid) and base in (None, manifest.base):
                kept[path] = manifest
    return FoundManifests(kept, tuple(damaged))


def find_required(runs: Path, grid: str | None, base: str | None) -> FoundManifests:
    """Return the manifests of that grid and base (None: of any); raise UserError if there is none."""
    found = find(runs, grid, base)
    if found.manifests:
        return found
    if found.damaged:
        raise found.damaged[0]
    known = find(runs, None, None).manifests.values()
    if grid and known:
        raise unknown(f"grids launched in {runs}", grid if base is None else f"{grid} on {base}",
                      {m.grid if base is None else f"{m.grid} on {m.base}" for m in known})  # fmt: skip
    raise UserError(f"{runs}: no grid was launched here; give the folder with --runs")


def read_undamaged(runs: Path, grid: str | None, base: str | None) -> list[Manifest]:
    """Return the manifests of that grid and base (None: of any); raise UserError if there is none, or one is
    damaged: for callers that must not miss a run."""
    found = find_required(runs, grid, base)
    if found.damaged:
        raise found.damaged[0]
    return list(found.manifests.values())


def add(runs: Path, grid: str, base: str, merged: Callable[[Manifest | None], Manifest]) -> None:
    """Add what `merged` makes of the newest manifest (None: there is none yet), unless that is equal to it."""
    stem = f"{grid}-{base}"
    while True:
        path = next((path for path in newest(runs) if path.name.rsplit(".", 2)[0] == stem), None)
        old = None if path is None else read_model(path, Manifest)
        new = merged(old).model_dump(mode="json")
        number = 1 if path is None else int(path.name.split(".")[-2]) + 1
        if old is not None and new == old.model_dump(mode="json"):
            return
        if write_once(child(runs / "grids", f"{stem}.{number}.json"), to_json(new)):
            return


def _may_be(path: Path, grid: str | None, base: str | None) -> bool:
    """Return whether a manifest's name fits the grid and the base."""
    stem = path.name.rsplit(".", 2)[0]
    return (grid is None or stem.startswith(f"{grid}-")) and (base is None or stem.endswith(f"-{base}"))
