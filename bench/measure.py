"""One benchmark: its group, its name, what is kept beside its times, and how often it is run."""

from collections.abc import Callable
from typing import Any

ROUNDS, WARMUP = 25, 3


def measure(
    benchmark: Any,
    function: Callable[[], Any],
    group: str,
    name: str,
    rounds: int = ROUNDS,
    warmup: int = WARMUP,
    **extra: Any,
) -> None:
    benchmark.group, benchmark.name = group, name
    benchmark.extra_info.update(extra)
    benchmark.pedantic(function, rounds=rounds, warmup_rounds=warmup)
