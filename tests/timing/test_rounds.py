"""The clock: a known sleep, turns taken, a GPU waited for."""

import gc
import time

import pytest
import torch

from diffussm import timing
from diffussm.timing import rounds


def test_a_known_sleep() -> None:
    seconds = timing.time_interleaved({"sleep": lambda: time.sleep(0.02)}, rounds=6, warmup=1)["sleep"]
    assert len(seconds) == 6
    found = timing.summarise(seconds)
    assert found.median == pytest.approx(0.02, rel=0.25)
    assert 0.02 <= found.low <= found.median <= found.high


def test_functions_take_turns_after_the_warm_up() -> None:
    """Backwards in every other round."""
    calls: list[str] = []
    timing.time_interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3, warmup=1)
    assert "".join(calls) == "ababbaab"
    assert gc.isenabled()


def test_the_clock_is_read_twice_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a GPU is waited for before and after a round, and not within it."""
    read: list[str] = []
    clock = timing.synchronised_time
    monkeypatch.setattr(rounds, "synchronised_time", lambda: read.append("clock") or clock())
    timing.time_interleaved({"a": lambda: read.append("a")}, rounds=2, warmup=1)
    assert read == ["a", *["clock", "a", "clock"] * 2]


def test_the_clock_waits_for_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """And asks only whether it is in use: whether there is one takes longer to tell."""
    waited: list[None] = []
    monkeypatch.delattr(torch.cuda, "is_available")
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append(None))
    timing.synchronised_time()
    assert waited == [None]
