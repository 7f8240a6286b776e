"""The guards of the benchmarks: what is wrong, impossible, missing or too slow reports no time, and is shown."""

import gc
import json
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

import bench.test_mixers as test_mixers
from bench.layers import contender
from bench.measure import BOTH, FORWARD, Contender, Skipped, Stopwatch, Timed, Trial
from bench.scale import Scale, Shape, scale
from diffussm.ssm.s4d import BACKENDS
from tests.support.bench_session import session, stop_time
from tests.support.known_peaks import KnownPeaks
from tests.support.s4d_layers import Compute

MADE_UP = """
import time

import torch

from bench.measure import Bench, Contender, skip, missing
from bench.scale import Shape


def sleep():
    time.sleep(0.01)


def wrong():
    torch.testing.assert_close(torch.ones(1), torch.zeros(1))


def described(bench, name):
    bench.describe("mixers", "made up", name, "forward", Shape(64, 64, 2))


def test_right(bench):
    described(bench, "right")
    bench.measure(Contender(sleep, lambda: None, macs=1000, bytes_moved=1, items=3))


def test_in_turns(bench):
    described(bench, "in turns")
    slow, fast = Contender(lambda: time.sleep(0.02)), Contender(sleep)
    outcomes = bench.stopwatch.in_turns({"slow": slow, "fast": fast, "wrong": Contender(sleep, wrong)})
    bench.record(outcomes, "slow", ["fast", "wrong"])


def test_wrong(bench):
    described(bench, "wrong")
    bench.measure(Contender(sleep, wrong))


def test_impossible(bench):
    described(bench, "impossible")
    bench.measure(Contender(lambda: time.sleep(0.001), macs=5 * 10**9))


def test_missing(bench):
    described(bench, "missing")
    missing("a peer")


def test_skipped(bench):
    described(bench, "left out")
    skip("it takes a day")


def test_broken(bench):
    raise ValueError("before it printed its name")
"""
KEYS = {
    "version", "suite", "subject", "shape", "pass", "device", "dtype", "threads", "interval", "peak_memory", "macs",
    "headline_macs", "bytes", "roofline", "items", "ratios",
}  # fmt: skip


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a session of made-up benchmarks keeps."""
    folder = tmp_path_factory.mktemp("bench")
    out = folder / "run.json"
    done = session(folder, MADE_UP, out)
    assert done.returncode == 1, done.stdout
    for text in ("3 failed, 2 passed, 2 skipped", "missing: a peer", "skipped: it takes a day"):
        assert text in done.stdout
    return dict(json.loads(out.read_text()))


def named(stored: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in stored["benchmarks"]}


def test_only_what_is_right_has_a_time(stored: dict[str, Any]) -> None:
    assert named(stored).keys() == {"right", "in turns"}
    found = {one["name"]: (one["status"], one["reason"]) for one in stored["without_time"]}
    assert found.pop("wrong")[0] == "failed"
    status, reason = found.pop("impossible")
    assert status == "failed"
    assert reason.endswith("times the matmul peak of this machine: wrong count or clock")
    assert found == {
        "missing": ("missing", "a peer"),
        "left out": ("skipped", "it takes a day"),
        "test_broken": ("failed", "before it printed its name"),
    }
    groups = {one["name"]: one["group"] for one in stored["without_time"]}
    assert groups["wrong"] == "made up, forward, D = 64, L = 64, B = 2"
    assert groups["test_broken"] == "test_made_up"


def test_what_is_kept_of_a_benchmark(stored: dict[str, Any]) -> None:
    one = named(stored)["right"]
    about, stats = one["extra_info"], one["stats"]
    assert about.keys() == KEYS
    assert (about["suite"], about["subject"], about["pass"]) == ("mixers", "right", "forward")
    assert about["shape"] == {"width": 64, "length": 64, "batch": 2}
    assert (about["macs"], about["bytes"], about["items"]) == (1000, 1, 3)
    assert stats["rounds"] == len(stats["data"]) >= 6
    assert stats["median"] == pytest.approx(0.01, rel=0.01)
    low, high = about["interval"]
    assert min(stats["data"]) <= low <= stats["median"] <= high <= max(stats["data"])
    peak = stored["peaks"]["matmul"]["macs_per_second"]
    assert about["roofline"] == {"bound": "matmul", "share": pytest.approx(1000 / peak / stats["median"])}


def test_ratios_are_to_what_has_a_time(stored: dict[str, Any]) -> None:
    ratios = named(stored)["in turns"]["extra_info"]["ratios"]
    assert [(one["of"], one["to"], one["pass"]) for one in ratios] == [("slow", "fast", "forward")]
    assert ratios[0]["low"] <= ratios[0]["median"] <= ratios[0]["high"]
    assert ratios[0]["median"] == pytest.approx(2, rel=0.01)


def test_what_is_kept_of_a_session(stored: dict[str, Any]) -> None:
    assert stored["scale"] == "small"
    assert stored["machine_info"]["clocks"].keys() == {"start", "end"}
    assert stored["peaks"]["matmul"]["macs_per_second"] == 3e10
    assert stored["peaks"]["copy"]["bytes_per_second"] == 1e10


@pytest.fixture
def stopwatch(monkeypatch: pytest.MonkeyPatch) -> Stopwatch:
    stop_time(monkeypatch)
    known = KnownPeaks("cpu")
    return Stopwatch(Scale("small", "cpu", 64, 64, "S", 2, seconds=0.001, max_seconds=0.3), lambda: known)


def test_benchmarks_that_take_too_long_are_skipped(stopwatch: Stopwatch) -> None:
    """By the roofline, by a part of it, or by its calls; the rest is timed."""
    calls: list[str] = []
    outcomes = stopwatch.in_turns(
        {
            "from the roofline": Contender(lambda: calls.append("roofline"), macs=51_000),
            "from a part of it": Contender(lambda: calls.append("part"), trial=Trial(lambda: time.sleep(0.1), 4)),
            "from the first call": Contender(lambda: time.sleep(0.35)),
            "by the second call": Contender(lambda: time.sleep(0.12)),
            "short": Contender(lambda: calls.append("short"), macs=0),
        }
    )
    assert isinstance(outcomes.pop("short"), Timed)
    for words, found in outcomes.items():
        assert isinstance(found, Skipped)
        assert words in found.reason
        assert "the limit at --scale small is 0 s" in found.reason
    assert set(calls) == {"short"}


def test_what_only_starts_slowly_is_timed(stopwatch: Stopwatch) -> None:
    def started_by(seconds: float) -> Callable[[], None]:
        waits = iter([seconds])
        return lambda: time.sleep(next(waits, 0.001))

    outcomes = stopwatch.in_turns(
        {
            "call": Contender(started_by(0.2)),
            "part": Contender(lambda: None, trial=Trial(started_by(0.2), 4)),
            "allowed more": Contender(lambda: time.sleep(0.1), max_seconds=2.0),
        }
    )
    assert [type(found) for found in outcomes.values()] == [Timed] * 3


def test_an_error_keeps_no_model_alive(stopwatch: Stopwatch) -> None:
    model = torch.nn.Linear(2, 2)
    gone = weakref.ref(model)

    def contender(layer: torch.nn.Module) -> Contender:
        return Contender(lambda: layer(torch.ones(3)))

    wrong = stopwatch.in_turns({"wrong": contender(model)})["wrong"]
    del model
    assert isinstance(wrong, RuntimeError)
    assert "in in_turns" not in str(wrong)
    assert any("layer(torch.ones(3))" in note for note in wrong.__notes__)
    gc.collect()
    assert gone() is None


class Attentive(torch.nn.Module):
    """With a gradient that is `factor` times its own."""

    def __init__(self, factor: float):
        super().__init__()
        self.inner, self.factor = torch.nn.Linear(4, 4), factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.inner(x).softmax(-1)
        return y * self.factor + (y * (1 - self.factor)).detach()


@pytest.mark.parametrize("factor", [1.0, 0.0, 0.9, -1.0])
def test_a_gradient_is_held_against_what_is_nearby(factor: float) -> None:
    torch.manual_seed(0)
    stopwatch = Stopwatch(scale("tiny"), lambda: KnownPeaks("cpu"))
    layer = Attentive(factor)
    before = [parameter.detach().clone() for parameter in layer.parameters()]
    found = stopwatch.in_turns({"": contender(layer, [torch.randn(8, 4)], (8, 4), BOTH, None)})[""]
    assert isinstance(found, Timed if factor == 1 else AssertionError), found
    assert all(torch.equal(a, b) for a, b in zip(before, layer.parameters(), strict=True))


def test_all_of_a_mixer_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples between the first and the last, and gradients of a backend."""
    stopwatch, shape = Stopwatch(scale("tiny"), lambda: KnownPeaks("cpu")), Shape(32, 24, 4)

    def timed(made: Compute, pass_: str) -> dict[str, bool]:
        monkeypatch.setitem(BACKENDS, "chunked", made)
        test_mixers.in_turns.cache_clear()
        outcomes = test_mixers.in_turns(stopwatch, shape, pass_)
        monkeypatch.undo()
        test_mixers.in_turns.cache_clear()
        return {mixer: isinstance(found, Timed) for mixer, found in outcomes.items()}

    right = BACKENDS["chunked"]

    def spoiled(*arguments: Any) -> torch.Tensor:
        y = right(*arguments).clone()
        y[1:3] = 7
        return y

    def without_gradient(*arguments: Any) -> torch.Tensor:
        y = right(*arguments)
        return y.detach() + 0 * y

    assert all(timed(right, FORWARD).values())
    assert not timed(spoiled, FORWARD)["S4D (chunked)"]
    assert all(timed(right, BOTH).values())
    assert not timed(without_gradient, BOTH)["S4D (chunked)"]


def test_one_that_is_wrong_takes_no_other_with_it(stopwatch: Stopwatch) -> None:
    def wrong() -> None:
        raise AssertionError("wrong")

    outcomes = stopwatch.in_turns({"wrong": Contender(lambda: None, wrong), "right": Contender(lambda: None)})
    assert isinstance(outcomes["wrong"], AssertionError)
    assert isinstance(outcomes["right"], Timed)
    assert len(outcomes["right"].seconds) == 25
