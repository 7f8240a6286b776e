"""Measurement of a benchmark: it is described, checked, timed in turns, compared with the roofline and recorded.

A test describes its benchmark first, so that it is recorded by name even if it gets no time, because its check fails,
a requirement is missing or it would take too long.
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
MAX_ROUNDS = 25
LONG_CALL_SECONDS = 0.3  # calls of at least so many seconds are warmed up once, shorter ones twice
COLD_CALL_FACTOR = 2.0  # a first call may take this many times as long as later ones
MISSING, SKIPPED = "missing: ", "skipped: "


class Trial(NamedTuple):
    """A part of a slow call and the number of such parts in the call, from which its duration is estimated."""

    call: Callable[[], Any]
    parts: int


class Contender(NamedTuple):
    """A call to be timed, the check of its result, and its cost."""

    call: Callable[[], Any]
    check: Callable[[], None] | None = None
    macs: int | None = None  # multiply-adds of a call
    bytes_moved: int | None = None  # least number of bytes that a call reads and writes
    items: int | None = None  # images of a call
    headline: int | None = None  # multiply-adds of the function, whatever the backend
    trial: Trial | None = None
    max_seconds: float | None = None  # seconds that its rounds may take, if not the general limit


class Timed(NamedTuple):
    seconds: list[float]
    peak_memory: int | None
    contender: Contender


class Skipped(NamedTuple):
    reason: str


TimingResult = Timed | Skipped | Exception


def missing(what: str) -> NoReturn:
    """Skip this benchmark, which needs something that is not installed."""
    pytest.skip(MISSING + what)


def skip(why: str) -> NoReturn:
    """Skip this benchmark, which would take too much time or memory on this machine."""
    pytest.skip(SKIPPED + why)


class Stopwatch:
    """Times contenders for as long as the scale allows; at the scale `tiny`, each is checked and called once."""

    def __init__(self, scale: Scale, peaks: Callable[[], Peaks]):
        self.scale, self._peaks = scale, peaks

    def in_turns(
        self, contenders: Mapping[str, Contender], max_seconds: float | None = None
    ) -> dict[str, TimingResult]:
        """Return the outcome of each contender, timed in turns; `max_seconds` is the limit in seconds for the rounds of
        one (default: that of the scale)."""
        outcomes: dict[str, TimingResult] = {
            name: self._warm(contender, contender.max_seconds or max_seconds or self.scale.max_seconds)
            for name, contender in contenders.items()
        }
        ready = {name: contenders[name].call for name, found in outcomes.items() if isinstance(found, Timed)}
        if ready and not self.scale.tiny:
            first = sum(found.seconds[0] for found in outcomes.values() if isinstance(found, Timed))
            rounds = int(self.scale.seconds * len(ready) / first)
            seconds = timing.time_interleaved(ready, min(max(rounds, timing.MIN_ROUNDS), MAX_ROUNDS), warmup=0)
            for name, found in outcomes.items():
                if isinstance(found, Timed):
                    outcomes[name] = found._replace(seconds=seconds[name])
        return {name: _without_call(found) for name, found in outcomes.items()}

    def _warm(self, contender: Contender, max_seconds: float) -> TimingResult:
        """Warm up and check the contender; its memory is that of the last call, which includes no set-up."""
        try:
            if not self.scale.tiny and (reason := self._predicted_too_long(contender, max_seconds)):
                return Skipped(reason)
            if self.scale.tiny:
                _check(contender)
                contender.call()
                return Timed([], None, contender)
            seconds, memory = _measure_call(contender.call)
            if reason := self._too_long(seconds / COLD_CALL_FACTOR, max_seconds, "estimated from the first call"):
                if seconds > max_seconds:
                    return Skipped(reason)
                seconds, memory = _measure_call(contender.call)
                if reason := self._too_long(seconds, max_seconds, "measured by the second call"):
                    return Skipped(reason)
            _check(contender)
            if seconds < LONG_CALL_SECONDS:
                seconds, memory = _measure_call(contender.call)
            return Timed([seconds], memory, contender)
        except Exception as error:
            return _without_references(error)

    def _predicted_too_long(self, contender: Contender, max_seconds: float) -> str:
        """Return why the rounds would take too long, as predicted without a call; "" if they would not."""
        bound = max(self._peaks().bounds(contender.macs, contender.bytes_moved).values(), default=0.0)
        if (reason := self._too_long(bound, max_seconds, "estimated from the roofline")) or contender.trial is None:
            return reason
        part, parts = contender.trial
        seconds = timing.seconds_of(part)
        if seconds < max_seconds < parts * seconds:  # the first call may have included set-up
            seconds = timing.seconds_of(part)
        total = parts * seconds
        return (
            f"a call would take {total:.0f} s (estimated from a part of it); {self._limit(max_seconds)}"
            if total > max_seconds
            else ""
        )

    def _too_long(self, seconds: float, max_seconds: float, how: str) -> str:
        needed = timing.MIN_ROUNDS * seconds
        if needed <= max_seconds:
            return ""
        return f"{timing.MIN_ROUNDS} calls would take {needed:.1f} s ({how}); {self._limit(max_seconds)}"

    def _limit(self, max_seconds: float) -> str:
        return f"the limit at --scale {self.scale.name} is {max_seconds:.0f} s"


class Bench:
    """One benchmark of a session, given by the fixture `bench`."""

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
        """Set the group, made of `title`, pass and shape, the name in it (`subject`), and what is stored about it.

        `version` must be raised when what is timed changes. `device` defaults to that of the scale.
        """
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

    def measure(self, contender: Contender, max_seconds: float | None = None) -> None:
        """Time and record a contender by itself."""
        self.record(self.stopwatch.in_turns({"": contender}, max_seconds), "")

    def record(self, outcomes: Mapping[str, TimingResult], name: str, against: Iterable[str] = ()) -> None:
        """Record the outcome of `name`, with its ratios to those of `against` that have a time."""
        found = outcomes[name]
        if isinstance(found, Exception):
            raise found
        if isinstance(found, Skipped):
            skip(found.reason)
        if self.benchmark.disabled:
            self.benchmark(lambda: None)
            return
        contender = found.contender
        self._peaks().roofline(found.seconds, contender.macs, contender.bytes_moved)  # raises Impossible: not recorded
        self.benchmark.extra_info.update(
            {
                "interval": list(timing.summarise(found.seconds)[1:3]),
                "peak_memory": found.peak_memory,
                "macs": contender.macs,
                "headline_macs": contender.headline,
                "bytes": contender.bytes_moved,
                "roofline": None,  # set at the end, when all peaks are known
                "items": contender.items,
                "ratios": [
                    self._ratio(outcomes, name, other) for other in against if isinstance(outcomes[other], Timed)
                ],
            }
        )
        self.benchmark.pedantic(lambda: None)  # replaced by the rounds that were timed in turns with the others
        self.benchmark.stats.stats.data[:] = found.seconds

    def _ratio(self, outcomes: Mapping[str, TimingResult], name: str, other: str) -> dict[str, Any]:
        seconds = {key: found.seconds for key, found in outcomes.items() if isinstance(found, Timed)}
        description = {"of": name, "to": other, "pass": self.benchmark.extra_info["pass"]}
        return {**description, **timing.ratio(seconds, name, other)._asdict()}


def _without_call(found: TimingResult) -> TimingResult:
    """Return the outcome without its functions, which would keep models in memory."""
    return (
        found._replace(contender=found.contender._replace(call=_discarded, check=None, trial=None))
        if isinstance(found, Timed)
        else found
    )


def _check(contender: Contender) -> None:
    if contender.check:
        contender.check()


def _measure_call(call: Callable[[], Any]) -> tuple[float, int | None]:
    """Return the seconds and the peak memory of one call."""
    seconds: list[float] = []
    memory = timing.peak_memory(lambda: seconds.append(timing.seconds_of(call)))
    return seconds[0], memory


def _without_references(error: Exception) -> Exception:
    """Return the error with its traceback as text, so that it keeps no model in memory."""
    error.add_note("".join(traceback.format_exception(error)))
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)


def _discarded() -> NoReturn:
    raise RuntimeError("this call has been measured and discarded")
