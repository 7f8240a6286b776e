"""The timer itself: a known sleep, turns taken, ratios within a round."""

import gc
import time

import pytest

from diffussm import timing


def test_a_known_sleep() -> None:
    seconds = timing.in_turns({"sleep": lambda: time.sleep(0.02)}, rounds=5, warmup=1)["sleep"]
    assert len(seconds) == 5
    assert timing.summarise(seconds).median == pytest.approx(0.02, rel=0.25)


def test_functions_take_turns_after_the_warm_up() -> None:
    calls: list[str] = []
    timing.in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2, warmup=1)
    assert "".join(calls) == "ababab"
    assert gc.isenabled()


def test_ratio_is_of_one_round() -> None:
    found = timing.ratio({"slow": [2.0, 20.0, 200.0], "fast": [1.0, 10.0, 50.0]}, "slow", "fast")
    assert (found.median, found.n) == (2.0, 3)
    assert found.q3 == 3.0


def test_machine_card() -> None:
    card = timing.machine_card()
    assert {"processor", "cores", "threads", "torch", "gpu", "commit", "python"} <= card.keys()
