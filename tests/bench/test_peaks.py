"""The peaks of a machine and the bounds they set."""

import pytest

from bench import peaks
from bench.peaks import Impossible, Peaks
from tests.support.known_peaks import KnownPeaks


def test_peaks_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaks, "SIDES", (128,))
    monkeypatch.setattr(peaks, "COPIES", (peaks.MIB,))
    found = Peaks("cpu")
    assert found.macs_per_second > 1e7
    assert found.copies.keys() == {2 * peaks.MIB}
    assert found.bytes_per_second() > 1e7


def test_the_larger_bound_counts() -> None:
    known = KnownPeaks("cpu")
    assert known.roofline([4.0], macs=10**6, bytes_moved=2 * 10**6) == ("copy", 0.5)
    assert known.roofline([4.0], macs=10**6, bytes_moved=None) == ("matmul", 0.25)
    assert known.roofline([4.0], None, None) is None


def test_a_rate_above_the_peak_fails_when_the_peak_is_measured_again() -> None:
    known = KnownPeaks("cpu")
    assert known.roofline([1.0], macs=1_090_000, bytes_moved=None) == ("matmul", 1.09)
    assert known.roofline([1.0], macs=2 * 10**6, bytes_moved=None) == ("matmul", 1)  # the machine had been slow before
    with pytest.raises(Impossible, match=r"1\.33 times the matmul peak"):
        known.roofline([1.0], macs=4 * 10**6, bytes_moved=None)


def test_small_copies_bound_small_calls() -> None:
    """What fits a cache may be faster than what does not."""
    known = KnownPeaks("cpu")
    small, large = min(known.copies), max(known.copies)
    known.copies = {size: 5e6 if size == small else 1e6 for size in known.copies}
    assert [known.bytes_per_second(size) for size in (1, small, small + 1, large, 10 * large)] == [
        5e6,
        5e6,
        *[1e6] * 3,
    ]
    assert known.bytes_per_second() == 1e6
