"""Peak memory: a known allocation."""

from pathlib import Path

import pytest
import torch

from diffussm import timing
from diffussm.timing import memory

MIB = 2**20


def touched() -> None:
    torch.ones(64 * MIB, dtype=torch.uint8)


@pytest.fixture(params=["the kernel's mark", "sampled"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("missing: /proc")
    if request.param == "sampled":
        monkeypatch.setattr(memory, "_CLEAR_REFS", tmp_path)  # a folder cannot be written to
    elif not memory._CLEAR_REFS.exists():
        pytest.skip("missing: /proc/self/clear_refs")


@pytest.mark.usefixtures("way")
def test_a_known_allocation() -> None:
    """Also the second time, when the process has memory that it freed; and what is not touched does not count."""
    timing.peak_memory(touched)
    for call, mib in ((touched, 64), (touched, 64), (lambda: torch.empty(64 * MIB, dtype=torch.uint8), 0)):
        assert timing.peak_memory(call) == pytest.approx(mib * MIB, abs=4 * MIB)


def test_memory_that_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "none")
    assert timing.peak_memory(touched) is None
