"""The copies of the code that results name: what made a record can be read as long as the record exists."""

from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from diffussm.errors import UserError
from diffussm.store.reading import Model, read_model


class _Provenance(BaseModel):
    """The part of a provenance that names the code; external samples have none."""

    model_config = ConfigDict(extra="ignore", strict=True)

    code: str | None = None


class _Record(BaseModel):
    """The part of a record that names the code."""

    model_config = ConfigDict(extra="ignore", strict=True)

    provenance: _Provenance


def code_of_results(runs: Path, on_damage: Callable[[str], None]) -> set[str] | None:
    """Return the digests of the code that made the records, checkpoints and weights of all runs, from the records and
    from the provenance of attempts. Return None, after calling `on_damage` with the errors, if a damaged file leaves
    that open."""
    found: set[str] = set()
    damages: list[str] = []
    for provenance in _provenances(runs, damages.append):
        found |= {provenance.code} if provenance.code else set()
    for damage in damages:
        on_damage(f"{damage}; the code that it names is not known, so no code is deleted")
    return None if damages else found


def _provenances(runs: Path, on_damage: Callable[[str], None]) -> Iterator[_Provenance]:
    for path in sorted(runs.glob("*/provenance-*.json")):
        yield from _read(path, _Provenance, on_damage)
    for path in sorted(runs.glob("*/milestones/*/*/record.json")):
        yield from (record.provenance for record in _read(path, _Record, on_damage))


def _read(path: Path, model: type[Model], on_damage: Callable[[str], None]) -> Iterator[Model]:
    """Yield the content of a file, unless it is damaged or was deleted meanwhile."""
    try:
        yield read_model(path, model)
    except FileNotFoundError:
        return
    except UserError as damage:
        on_damage(str(damage))
