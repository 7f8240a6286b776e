"""Selection of arms and runs by the option `--only`."""

import fnmatch
from collections.abc import Callable, Mapping, Sequence


def selection(patterns: Sequence[str]) -> Callable[[str, Mapping[str, str], str], bool]:
    """A function that returns whether `--only` selects a run (arm, levels, run id). Each pattern is matched with the
    arm and the run id, or is axis=level."""

    def is_selected(arm: str, levels: Mapping[str, str], run_id: str) -> bool:
        return not patterns or any(_matches(pattern, arm, levels, run_id) for pattern in patterns)

    return is_selected


def _matches(pattern: str, arm: str, levels: Mapping[str, str], run_id: str) -> bool:
    axis, equals, level = pattern.partition("=")
    if equals and axis in levels and fnmatch.fnmatchcase(levels[axis], level):
        return True
    return any(fnmatch.fnmatchcase(name, pattern) for name in (arm, run_id))
