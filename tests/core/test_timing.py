"""The timer itself: a known sleep, a known allocation, turns taken, intervals that hold the median as often as said."""

import gc
import math
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from diffussm import timing

MIB = 2**20


def test_a_known_sleep() -> None:
    seconds = timing.in_turns({"sleep": lambda: time.sleep(0.02)}, rounds=6, warmup=1)["sleep"]
    assert len(seconds) == 6
    found = timing.summarise(seconds)
    assert found.median == pytest.approx(0.02, rel=0.25)
    assert 0.02 <= found.low <= found.median <= found.high


def touched() -> None:
    torch.ones(64 * MIB, dtype=torch.uint8)


@pytest.fixture(params=["the kernel's mark", "sampled"])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("missing: /proc")
    if request.param == "sampled":
        monkeypatch.setattr(timing, "_CLEAR_REFS", tmp_path)  # a folder cannot be written to
    elif not timing._CLEAR_REFS.exists():
        pytest.skip("missing: /proc/self/clear_refs")


@pytest.mark.usefixtures("memory")
def test_a_known_allocation() -> None:
    """Also the second time, when the process has memory that it freed; and what is not touched does not count."""
    timing.peak_memory(touched)
    for call, mib in ((touched, 64), (touched, 64), (lambda: torch.empty(64 * MIB, dtype=torch.uint8), 0)):
        assert timing.peak_memory(call) == pytest.approx(mib * MIB, abs=4 * MIB)


def test_memory_that_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(timing, "_STATUS", tmp_path / "none")
    assert timing.peak_memory(touched) is None


def test_functions_take_turns_after_the_warm_up() -> None:
    """Backwards in every other round."""
    calls: list[str] = []
    timing.in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3, warmup=1)
    assert "".join(calls) == "ababbaab"
    assert gc.isenabled()


def test_the_clock_is_read_twice_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a GPU is waited for before and after a round, and not within it."""
    read: list[str] = []
    clock = timing.clock
    monkeypatch.setattr(timing, "clock", lambda: read.append("clock") or clock())
    timing.in_turns({"a": lambda: read.append("a")}, rounds=2, warmup=1)
    assert read == ["a", *["clock", "a", "clock"] * 2]


def test_the_clock_waits_for_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """And asks only whether it is in use: whether there is one takes longer to tell."""
    waited: list[None] = []
    monkeypatch.delattr(torch.cuda, "is_available")
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append(None))
    timing.clock()
    assert waited == [None]


def test_ratio_is_of_one_round() -> None:
    fast = [1.0, 10.0, 100.0, 1.0, 10.0, 100.0]
    found = timing.ratio({"slow": [2 * seconds for seconds in fast], "fast": fast}, "slow", "fast")
    assert found == (2.0, 2.0, 2.0, 6)


@pytest.mark.parametrize(("n", "rank"), [(6, 0), (8, 0), (9, 1), (25, 7), (100, 39)])
def test_ranks_are_those_of_the_tables(n: int, rank: int) -> None:
    """As in Conover's tables of the sign test."""
    found = timing.summarise(np.random.default_rng(0).permutation(n))
    assert (found.low, found.high) == (rank, n - 1 - rank)


@pytest.mark.parametrize("n", [6, 9, 25])
@pytest.mark.parametrize("draw", ["exponential", "standard_normal"])
def test_intervals_hold_the_median(n: int, draw: str) -> None:
    """At 95 % at least, whatever the distribution; of 4,000 draws, less three standard errors."""
    generator, truth = np.random.default_rng(n), {"exponential": math.log(2), "standard_normal": 0.0}[draw]
    sample: Callable[..., np.ndarray] = getattr(generator, draw)
    found = [timing.summarise(sample(size=n)) for _ in range(4000)]
    held = np.mean([one.low <= truth <= one.high for one in found])
    assert held > 0.95 - 3 * (0.95 * 0.05 / 4000) ** 0.5


def test_too_few_rounds_have_no_interval() -> None:
    with pytest.raises(ValueError, match="5 rounds: the median's 95 % interval needs 6"):
        timing.summarise([1.0] * 5)


def test_machine_card() -> None:
    card = timing.machine_card()
    assert {"processor", "cores", "threads", "torch", "cuda", "gpu", "commit", "python"} <= card.keys()
    assert card["clocks"].keys() == {
        "cpu_mhz", "cpu_max_mhz", "gpu_mhz", "gpu_max_mhz", "gpu_celsius", "gpu_throttle_reasons"
    }  # fmt: skip
    assert card["clocks"]["cpu_mhz"] is None or min(card["clocks"]["cpu_mhz"]) > 100


@pytest.fixture
def smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """The clocks, when nvidia-smi tells that of GPU-12ab, which is in use."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_properties", {3: SimpleNamespace(uuid="12ab")}.__getitem__)

    def clocks(told: str) -> dict[str, Any]:
        command = tmp_path / "nvidia-smi"
        command.write_text(f"#!/bin/sh\ncase \"$*\" in *'-i GPU-12ab') printf '{told}';; *) exit 1;; esac\n")
        command.chmod(0o755)
        return timing.clocks()

    return clocks


def test_what_nvidia_smi_tells(smi: Callable[[str], dict[str, Any]]) -> None:
    found = smi(r"1410, 1980, 45, 0x0000000000000004\n")
    assert (found["gpu_mhz"], found["gpu_max_mhz"], found["gpu_celsius"]) == (1410, 1980, 45)
    assert found["gpu_throttle_reasons"] == "0x0000000000000004"


def test_what_nvidia_smi_does_not_tell(smi: Callable[[str], dict[str, Any]]) -> None:
    found = smi(r"1410, [N/A], 45, [N/A]\n")
    assert (found["gpu_mhz"], found["gpu_max_mhz"], found["gpu_celsius"]) == (1410, None, 45)
    assert found["gpu_throttle_reasons"] is None
    for told in ("", "No devices were found"):
        found = smi(told)
        assert {value for name, value in found.items() if name.startswith("gpu")} == {None}


def test_a_gpu_without_a_uuid_is_the_first_that_is_told(
    smi: Callable[[str], dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", {3: SimpleNamespace()}.__getitem__)
    assert smi("")["gpu_mhz"] is None
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 1410, 1980, 45, 0x0\necho 1, 2, 3, 0x0\n")
    assert timing.clocks()["gpu_mhz"] == 1410


def test_no_nvidia_smi(smi: Callable[[str], dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert timing.clocks()["gpu_mhz"] is None
