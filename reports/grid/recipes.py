"""Whether the runs of each arm are repetitions of one recipe, by the configs in their folders."""

from pathlib import Path
from typing import Any

from diffussm.config import trajectory
from diffussm.errors import UserError
from diffussm.store.manifests import Manifest
from diffussm.store.rundir import RunDir


def check_recipes(launched: Manifest, runs: Path, where: str) -> None:
    """Raise UserError, which names the fields, if two runs of an arm differ in more than the seed. A run without a
    folder, or with a damaged config, is of no recipe."""
    first: dict[str, tuple[str, dict[str, Any]]] = {}
    for entry in launched.runs:
        try:
            own = _recipe(RunDir(runs / entry.run_id))
        except UserError:
            continue
        other_id, other = first.setdefault(entry.arm, (entry.run_id, own))
        if differ := sorted(field for field in own.keys() | other.keys() if own.get(field) != other.get(field)):
            raise UserError(
                f"{where}: arm {entry.arm!r} has runs of two recipes: {other_id} and {entry.run_id} differ in "
                f"{', '.join(differ)}; launch the grid again, for reports of the present recipe only"
            )


def _recipe(run: RunDir) -> dict[str, Any]:
    """Return the fields that determine the run's training, but for the seed: section.field to value."""
    nested = trajectory(run.config())
    return {
        f"{section}.{field}": value
        for section, values in nested.items()
        if isinstance(values, dict)
        for field, value in values.items()
    }
