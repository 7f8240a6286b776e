"""The rule of accuracy refuses what is worse than it allows."""

import pytest
import torch
from torch import Tensor

from tests.support.accuracy import assert_as_accurate

EPS = torch.finfo(torch.float32).eps
EXACT = torch.tensor([3.0, -8.0, 0.0], dtype=torch.float64)


def off_by(count: float) -> Tensor:
    """EXACT in float32, its 0 off by so many eps of its scale, 8."""
    return (EXACT + torch.tensor([0.0, 0.0, 8 * EPS * count])).float()


@pytest.mark.parametrize(("ours", "trusted"), [(0, 0), (4, 0), (24, 10), (-24, 10), (1, 1000)])
def test_what_errs_by_twice_the_trusted_and_the_floor_is_right(ours: float, trusted: float) -> None:
    assert_as_accurate(off_by(ours), off_by(trusted), EXACT)


@pytest.mark.parametrize(("ours", "trusted"), [(4.01, 0), (24.01, 10), (-24.01, 10), (float("nan"), 10)])
def test_what_errs_by_more_is_not(ours: float, trusted: float) -> None:
    with pytest.raises(AssertionError, match=r"y: errs by .*, a trusted computation by"):
        assert_as_accurate(off_by(ours), off_by(trusted), EXACT, "y")


def test_one_wrong_number_among_many_is_found() -> None:
    exact = torch.randn(10_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours = exact.float()
    ours[77] += 1e-5
    with pytest.raises(AssertionError):
        assert_as_accurate(ours, exact.float(), exact)


def test_a_sum_in_half_precision_is_not_as_accurate_as_in_single() -> None:
    x = torch.rand(4, 1000, generator=torch.Generator().manual_seed(0))
    ours = x.half().sum(1).float()
    with pytest.raises(AssertionError):
        assert_as_accurate(ours, x.sum(1), x.double().sum(1))


@pytest.mark.parametrize(
    ("ours", "trusted", "exact"),
    [
        (EXACT, EXACT.float(), EXACT),  # another precision than the trusted one's
        (EXACT, EXACT, EXACT),  # nothing is more exact than they are
        (EXACT.float(), EXACT.float(), EXACT.float()),
        (EXACT.float()[None], EXACT.float(), EXACT),  # subtraction would broadcast
        (off_by(1), off_by(float("inf")), EXACT),  # anything would be allowed
    ],
)
def test_what_cannot_be_compared_is_refused(ours: Tensor, trusted: Tensor, exact: Tensor) -> None:
    with pytest.raises(AssertionError):
        assert_as_accurate(ours, trusted, exact)
