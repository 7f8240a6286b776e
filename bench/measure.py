"""The one door to a benchmark's numbers: described, checked, timed in turns, held against the roofline, kept.

A test describes its benchmark first, so that it is known by name if it has no time in the end. What is wrong, missing
or left out reports none.
"""

import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, NoReturn

import pytest
import torch

from bench.peaks import Peaks
from bench.scale import Scale, Shape
from diffussm import timing

FORWARD, BOTH, TRAINING = "forward", "forward and backward", "training step"
PASSES = (FORWARD, BOTH)
MOST_ROUNDS = 25
LONG = 0.3  # seconds of a call that is warmed up once, not twice
COLD = 2.0  # a first call takes up to so many times as long as later ones
MISSING, SKIPPED = "missing: ", "skipped: "


class Trial(NamedTuple):
    """A part of a slow call, and how many such parts make the whole: how long that will take, for little."""

    call: Callable[[], Any]
    parts: int


class Contender(NamedTuple):
    """A call, what shows that it is right, and what one call costs: multiply-adds, bytes moved at least, images; the
    headline multiply-adds, where they are compared. `longest` is what its rounds may take, if not what others may."""

    call: Callable[[], Any]
    check: Callable[[], None] | None = None
    macs: int | None = None
    moved: int | None = None
    items: int | None = None
    headline: int | None = None
    trial: Trial | None = None
    longest: float | None = None


class Timed(NamedTuple):
    seconds: list[float]
    peak_memory: int | None
    contender: Contender


class LeftOut(NamedTuple):
    reason: str


Outcome = Timed | LeftOut | Exception


def missing(what: str) -> NoReturn:
    """This benchmark needs something that is not installed."""
    pytest.skip(MISSING + what)


def left_out(why: str) -> NoReturn:
    """This benchmark would take too much of this machine."""
    pytest.skip(SKIPPED + why)


class Stopwatch:
    """Times contenders as long as a scale allows; at the scale `tiny` each is checked and called once."""

    def __init__(self, scale: Scale, peaks: Callable[[], Peaks]):
        self.scale, self._peaks = scale, peaks

    def in_turns(self, contenders: Mapping[str, Contender], longest: float | None = None) -> dict[str, Outcome]:
        """Each contender's rounds, those of one round after each other; `longest` is what they may take, if
        not what the scale says."""
        outcomes: dict[str, Outcome] = {
            name: self._warm(contender, contender.longest or longest or self.scale.longest)
            for name, contender in contenders.items()
        }
        ready = {name: contenders[name].call for name, found in outcomes.items() if isinstance(found, Timed)}
        if ready and not self.scale.tiny:
            first = sum(found.seconds[0] for found in outcomes.values() if isinstance(found, Timed))
            rounds = int(self.scale.seconds * len(ready) / first)
            seconds = timing.in_turns(ready, min(max(rounds, timing.FEWEST), MOST_ROUNDS), warmup=0)
            for name, found in outcomes.items():
                if isinstance(found, Timed):
                    outcomes[name] = found._replace(seconds=seconds[name])
        return {name: _without_call(found) for name, found in outcomes.items()}

    def _warm(self, contender: Contender, longest: float) -> Outcome:
        """Called and checked; its memory is that of the last call, which sets nothing up."""
        try:
            if not self.scale.tiny and (why := self._foreseen(contender, longest)):
                return LeftOut(why)
            if self.scale.tiny:
                _checked(contender)
                contender.call()
                return Timed([], None, contender)
            seconds, memory = _called(contender.call)
            if why := self._too_long(seconds / COLD, longest, "half the first"):
                if seconds > longest:
                    return LeftOut(why)
                seconds, memory = _called(contender.call)
                if why := self._too_long(seconds, longest, "the second"):
                    return LeftOut(why)
            _checked(contender)
            if seconds < LONG:
                seconds, memory = _called(contender.call)
            return Timed([seconds], memory, contender)
        except Exception as wrong:
            return _let_go(wrong)

    def _foreseen(self, contender: Contender, longest: float) -> str:
        """Why the fewest rounds will take too long, as far as can be told without a call; empty if they do not."""
        bound = max(self._peaks().bounds(contender.macs, contender.moved).values(), default=0.0)
        if (why := self._too_long(bound, longest, "the roofline")) or contender.trial is None:
            return why
        part, parts = contender.trial
        seconds = timing.seconds_of(part)
        if seconds < longest < parts * seconds:  # the first call may have set something up
            seconds = timing.seconds_of(part)
        foreseen = parts * seconds
        return f"a call takes {foreseen:.0f} s, by a part of it; {self._allows(longest)}" if foreseen > longest else ""

    def _too_long(self, seconds: float, longest: float, by: str) -> str:
        needed = timing.FEWEST * seconds
        return (
            f"{timing.FEWEST} calls take {needed:.1f} s, by {by}; {self._allows(longest)}" if needed > longest else ""
        )

    def _allows(self, longest: float) -> str:
        return f"--scale {self.scale.name} allows {longest:.0f} s"


class Bench:
    """One benchmark of a session: what the fixture `bench` gives."""

    def __init__(self, benchmark: Any, stopwatch: Stopwatch, peaks: Callable[[], Peaks]):
        self.benchmark, self.stopwatch, self.scale, self._peaks = benchmark, stopwatch, stopwatch.scale, peaks

    def describe(
        self,
        suite: str,
        title: str,
        subject: str,
        pass_: str = "",
        shape: Shape | None = None,
        version: int = 1,
        dtype: str = "float32",
        device: str | None = None,
    ) -> None:
        """`title`, pass and shape make the group, `subject` is its name in it. Whoever changes what is timed, raises
        `version`. `device` is where it runs, if not where the scale says."""
        self.benchmark.group = ", ".join(str(part) for part in (title, pass_, shape) if part)
        self.benchmark.name = subject
        self.benchmark.extra_info.update(
            {
                "version": version,
                "suite": suite,
                "subject": subject,
                "shape": shape._asdict() if shape else {},
                "pass": pass_,
                "device": device or self.scale.device,
                "dtype": dtype,
                "threads": torch.get_num_threads(),
            }
        )

    def measure(self, contender: Contender, longest: float | None = None) -> None:
        """By itself."""
        self.keep(self.stopwatch.in_turns({"": contender}, longest), "")

    def keep(self, outcomes: Mapping[str, Outcome], name: str, against: Iterable[str] = ()) -> None:
        """What `name` took, in turns with the others; with its ratios to those of `against` that have a time."""
        found = outcomes[name]
        if isinstance(found, Exception):
            raise found
        if isinstance(found, LeftOut):
            left_out(found.reason)
        if self.benchmark.disabled:
            self.benchmark(lambda: None)
            return
        contender = found.contender
        self._peaks().roofline(found.seconds, contender.macs, contender.moved)  # Impossible has no time
        self.benchmark.extra_info.update(
            {
                "interval": list(timing.summarise(found.seconds)[1:3]),
                "peak_memory": found.peak_memory,
                "macs": contender.macs,
                "headline_macs": contender.headline,
                "bytes": contender.moved,
                "roofline": None,  # known when all peaks are
                "items": contender.items,
                "ratios": [
                    self._ratio(outcomes, name, other) for other in against if isinstance(outcomes[other], Timed)
                ],
            }
        )
        self.benchmark.pedantic(lambda: None)  # the rounds were taken in turns with others': they are put in its place
        self.benchmark.stats.stats.data[:] = found.seconds

    def _ratio(self, outcomes: Mapping[str, Outcome], name: str, other: str) -> dict[str, Any]:
        seconds = {key: found.seconds for key, found in outcomes.items() if isinstance(found, Timed)}
        about = {"of": name, "to": other, "pass": self.benchmark.extra_info["pass"]}
        return {**about, **timing.ratio(seconds, name, other)._asdict()}


def _without_call(found: Outcome) -> Outcome:
    """So that models are not kept as long as times."""
    return (
        found._replace(contender=found.contender._replace(call=_gone, check=None, trial=None))
        if isinstance(found, Timed)
        else found
    )


def _checked(contender: Contender) -> None:
    if contender.check:
        contender.check()


def _called(call: Callable[[], Any]) -> tuple[float, int | None]:
    """Seconds and peak memory of one call."""
    took: list[float] = []
    memory = timing.peak_memory(lambda: took.append(timing.seconds_of(call)))
    return took[0], memory


def _let_go(wrong: Exception) -> Exception:
    """The error with where it came from in words, so that it keeps no model alive."""
    wrong.add_note("".join(traceback.format_exception(wrong)))
    wrong.__context__ = wrong.__cause__ = None
    return wrong.with_traceback(None)


def _gone() -> NoReturn:
    raise RuntimeError("this call was measured and is gone")
