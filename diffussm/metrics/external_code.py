"""Code from outside this package that a run uses: its names, and whether it has changed since an earlier attempt."""

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from diffussm.config import Config, is_external
from diffussm.errors import UserError
from diffussm.host.provenance import EXTERNAL_CODE
from diffussm.metrics.features.registry import extractor_facts
from diffussm.store.reading import open_regular
from diffussm.store.rundir import RunDir


def training_code(config: Config) -> tuple[str, ...]:
    """Return the names of what a training uses and may be from outside this package."""
    return config.model.mixer, config.data.name


def evaluation_code(config: Config) -> tuple[str, ...]:
    """Return the names of what a training and its evaluation use and may be from outside this package."""
    extractor = config.evaluation.extractor
    of_extractor = (extractor, extractor_facts(extractor).network) if is_external(extractor) else ()
    return *training_code(config), *of_extractor


def describe_changes(run: RunDir, provenance: Mapping[str, Any], before: int | None = None) -> list[str]:
    """Return a message for each external module whose source was another at the run's last attempt to train, or at
    the last one before attempt `before`."""
    numbers = (path.stem.removeprefix("provenance-") for path in run.path.glob("provenance-*.json"))
    for number in sorted((int(number) for number in numbers if number.isdecimal()), reverse=True):
        if before is None or number < before:
            earlier = _external_code(run, number)
            return [
                f"{module}: its source ({digest}) is not that of attempt {number} of the training ({earlier[module]})"
                for module, digest in provenance.get(EXTERNAL_CODE, {}).items()
                if earlier.get(module, digest) != digest
            ]
    return []


def _external_code(run: RunDir, attempt: int) -> dict[str, str]:
    """Return the digests in an attempt's provenance; none if that is damaged or of an earlier version."""
    path = run.path / f"provenance-{attempt}.json"
    with contextlib.suppress(OSError, UserError, ValueError, AttributeError), open_regular(path, UserError) as file:
        found = json.loads(file.read()).get(EXTERNAL_CODE, {})
        return {str(module): str(digest) for module, digest in found.items()}
    return {}
