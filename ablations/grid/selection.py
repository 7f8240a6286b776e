"""Which arms and runs the option `--only` selects."""

import fnmatch
from collections.abc import Callable, Mapping, Sequence


def selection(patterns: Sequence[str]) -> Callable[[str, Mapping[str, str], str], bool]:
    """Whether an arm (name, levels) or a run id is meant by `--only`: a pattern on arm or run id, or axis=level."""

    def meant(arm: str, levels: Mapping[str, str], run_id: str) -> bool:
        return not patterns or any(_is_meant(pattern, arm, levels, run_id) for pattern in patterns)

    return meant


def _is_meant(pattern: str, arm: str, levels: Mapping[str, str], run_id: str) -> bool:
    axis, equals, level = pattern.partition("=")
    if equals and axis in levels and fnmatch.fnmatchcase(levels[axis], level):
        return True
    return any(fnmatch.fnmatchcase(name, pattern) for name in (arm, run_id))
