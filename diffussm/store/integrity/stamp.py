"""What a file of weights or state says about itself: format version, run, step, kind, and the SHA-256 of the file."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from pydantic import Field, ValidationError

from diffussm.errors import UserError
from diffussm.store.integrity.digest import ZEROS
from diffussm.store.reading import StoredModel, describe_damage

FORMAT_VERSION = 2  # 1: files without a stamp
PREFIX = "diffussm."  # of a stamp's names beside those of other programs


class DamagedFile(UserError):
    """A file is not what it should be: its content changed, or it is of another run or step."""

    def __init__(self, path: Path, what: str):
        super().__init__(f"{path}: is damaged: {what}")
        self.path, self.what = path, what

    def __reduce__(self) -> tuple[type["DamagedFile"], tuple[Path, str]]:  # to be raised on other ranks
        return type(self), (self.path, self.what)


class Stamp(StoredModel):
    """The stamp of a file of weights or state."""

    names: ClassVar[tuple[str, ...]] = ("format_version", "run_id", "step", "kind", "sha256")

    format_version: int = FORMAT_VERSION
    run_id: str = Field(description='"" if the weights are of no run')
    step: int | None = Field(description="training steps of the weights; None if unknown")
    kind: str = Field(description="ema or raw weights, the state of a training, or an extractor")
    sha256: str = Field(ZEROS, pattern="^[0-9a-f]{64}$")

    def metadata(self) -> dict[str, str]:
        """Return the fields as text, by the names under which a file has them."""
        return {PREFIX + name: "" if value is None else str(value) for name, value in self.model_dump().items()}

    def check_place(self, path: Path, run_id: str, step: int, kind: str) -> None:
        """Raise DamagedFile if the file at `path` is not of this run, step and kind."""
        found, expected = (self.run_id, self.step, self.kind), (run_id, step, kind)
        if found != expected:
            raise DamagedFile(path, f"holds {_described(*found)}, but its place is that of {_described(*expected)}")


def read_stamp(path: Path, metadata: Mapping[str, str]) -> Stamp | None:
    """Return the stamp in a file's metadata; None for a file of an earlier version or of another program.

    Raises DamagedFile if the stamp is incomplete or of a later version.
    """
    given = {name.removeprefix(PREFIX): text for name, text in metadata.items() if name.startswith(PREFIX)}
    if not given:
        return None
    if missing := [name for name in Stamp.names if name not in given]:
        raise DamagedFile(path, f"its metadata has no {missing[0]}")
    try:
        version, step = int(given["format_version"]), int(given["step"]) if given["step"] else None
    except ValueError:
        raise DamagedFile(path, "its metadata has no valid format_version and step") from None
    if version != FORMAT_VERSION:
        raise DamagedFile(path, f"has format version {version}; this version of diffussm reads {FORMAT_VERSION}")
    try:
        return Stamp.model_validate({**given, "format_version": version, "step": step})
    except ValidationError as error:
        raise DamagedFile(path, f"its metadata: {describe_damage(error)}") from None


def _described(run_id: str, step: int | None, kind: str) -> str:
    at = "of an unknown step" if step is None else f"of step {step}"
    return f"{kind} {at} of {f'run {run_id}' if run_id else 'no run'}"
