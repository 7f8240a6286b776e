"""The error that a computation may have: twice that of a plain one in the same precision, plus a floor."""

import torch
from torch import Tensor

# In units of machine epsilon times the largest value: four numbers, each rounded to half an epsilon on the way to a
# result, twice as the rule allows.
FLOOR = 4.0


def assert_as_accurate(ours: Tensor, trusted: Tensor, exact: Tensor, name: str = "", floor: float = FLOOR) -> None:
    """max |ours - exact| <= 2 max |trusted - exact| + floor x eps x max |exact|.

    `ours` and `trusted` are of one precision, whose eps it is; `exact` is the same in float64. The floor is there for
    results of few operations, where the trusted computation may by chance not err at all: a result of four roundings
    (of a factor each, of their product, of a sum) is then still right. It does not grow with the length.
    """
    assert ours.dtype == trusted.dtype
    assert ours.dtype != exact.dtype == torch.float64
    assert ours.shape == trusted.shape == exact.shape, f"{name}: {ours.shape}, {trusted.shape}, {exact.shape}"
    assert trusted.isfinite().all(), f"{name}: the trusted computation is not finite"
    eps = torch.finfo(ours.dtype).eps * exact.abs().max().item()
    found, theirs = ((result.double() - exact).abs().max().item() for result in (ours, trusted))
    message = f"{name}: errs by {found:.3g}, a trusted computation by {theirs:.3g}, eps of the scale is {eps:.3g}"
    assert found <= 2 * theirs + floor * eps, message
