"""The precision of products on GPUs, which is set and put back."""

import pytest
import torch

from diffussm.precision import products

STATE = tuple[str, bool, bool]


def state() -> STATE:
    return (
        torch.backends.cuda.matmul.fp32_precision,
        torch.backends.cudnn.allow_tf32,
        torch.backends.cudnn.deterministic,
    )


@pytest.mark.parametrize(("tf32", "inside"), [(True, ("tf32", True)), (False, ("ieee", False))])
@pytest.mark.parametrize("deterministic", [True, False])
def test_products_and_convolutions_round_to_tf32_or_not(
    tf32: bool, inside: tuple[str, bool], deterministic: bool
) -> None:
    with torch.backends.cudnn.flags(enabled=True, deterministic=deterministic):
        before = state()
        with pytest.raises(ZeroDivisionError), products(tf32):
            assert state() == (*inside, deterministic)
            raise ZeroDivisionError
        assert state() == before
