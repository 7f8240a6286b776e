"""Progress on stderr: rates, what is left, and silence where there is nothing to say."""

import io

import pytest

from diffussm import progress
from diffussm.progress import Progress


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress.time, "monotonic", made)
    return made


def test_rate_and_rest(clock: Clock) -> None:
    out = io.StringIO()
    say = Progress("samples", 1000, out)
    clock.now += 500  # something else took its time
    say(0)
    clock.now += 100
    say(200)
    assert out.getvalue().splitlines()[-1] == "samples 200 of 1,000, 2 a second, 6 min 40 s left"


def test_what_was_there_already_has_no_part_in_the_rate(clock: Clock) -> None:
    out = io.StringIO()
    say = Progress("samples", 1000, out)
    say(900)
    clock.now += 50
    say(950)
    assert out.getvalue() == "samples 950 of 1,000, 1 a second, 50 s left\n"
    clock.now += 50
    say(1000)
    assert out.getvalue().splitlines()[-1] == "samples 1,000 of 1,000, 1 a second"


def test_no_storm_where_nobody_watches(clock: Clock) -> None:
    out = io.StringIO()
    say = Progress("samples", 36_001, out)
    for second in range(3600):
        say(10 * second)
        clock.now += 1
    assert 100 <= len(out.getvalue().splitlines()) <= 120
    assert "\r" not in out.getvalue()
    assert "\033" not in out.getvalue()


def test_a_screen_is_rewritten_twice_a_second_and_ends_in_a_line(clock: Clock) -> None:
    out = Screen()
    say = Progress("samples", 100, out)
    for done in range(101):
        say(done)
        clock.now += 0.1
    output = out.getvalue()
    assert 15 <= output.count("\r") <= 25
    assert output.count("\n") == 1
    assert output.endswith("samples 100 of 100, 10 a second\n")


def test_a_total_of_zero_prints_nothing(clock: Clock) -> None:
    """As in all processes but the first."""
    for out in (io.StringIO(), Screen()):
        say = Progress("samples", 0, out)
        for done in (0, 5, 12):
            clock.now += 100
            say(done)
        assert out.getvalue() == ""


def test_all_there_at_once(clock: Clock) -> None:
    out = io.StringIO()
    say = Progress("samples", 12, out)
    say(12)
    say(12)
    assert out.getvalue() == "samples 12 of 12\n"
