"""Selection of arms and runs by the option `--only`."""

import fnmatch
from collections.abc import Mapping, Sequence


def is_selected(patterns: Sequence[str], arm: str, levels: Mapping[str, str], run_id: str) -> bool:
    """Return whether `--only` selects a run. Each pattern is matched with the arm and the run id, or is axis=level;
    without patterns every run is selected."""
    return not patterns or any(_matches(pattern, arm, levels, run_id) for pattern in patterns)


def _matches(pattern: str, arm: str, levels: Mapping[str, str], run_id: str) -> bool:
    axis, equals, level = pattern.partition("=")
    if equals and axis in levels and fnmatch.fnmatchcase(levels[axis], level):
        return True
    return any(fnmatch.fnmatchcase(name, pattern) for name in (arm, run_id))
