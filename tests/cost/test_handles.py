"""What fvcore counts with our handles, operator by operator, and what it refuses."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffussm.cost.counted import Uncounted, fvcore_counts


class Call(nn.Module):
    def __init__(self, function: Callable[..., Tensor]):
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


def macs(function: Callable[..., Tensor], *inputs: Tensor) -> float:
    return sum(fvcore_counts(Call(function), inputs)[""].values())


REAL = torch.randn(2, 3, 8)
COMPLEX = torch.randn(2, 3, 8, dtype=torch.complex64)


@pytest.mark.parametrize(
    ("function", "inputs", "expected"),
    [
        (lambda a, b: a * b, (REAL, REAL), 0),
        (lambda a, b: a * b, (COMPLEX, REAL), 2 * 48),
        (lambda a, b: a * b, (COMPLEX, COMPLEX), 4 * 48),
        (lambda a: a / 3, (COMPLEX,), 2 * 48),
        (lambda a, b: a / b, (COMPLEX, COMPLEX), 8 * 48),
        (lambda a, b: torch.addcmul(a, a, b), (COMPLEX, COMPLEX), 4 * 48),
        (lambda a, b: torch.addcmul(a, a, b), (REAL, REAL), 0),
        (lambda a: torch.fft.fft(a), (COMPLEX,), 6 * 2.5 * 8 * 3),
        (lambda a: torch.fft.ifft(a, dim=0), (COMPLEX,), 24 * 2.5 * 2 * 1),
        (lambda a: torch.fft.rfft(a, n=16), (REAL,), 6 * 1.25 * 16 * 4),
        (lambda a: torch.fft.irfft(a, n=16), (COMPLEX,), 6 * 1.25 * 16 * 4),
        (lambda a, b: a @ b.mT, (REAL, REAL), 2 * 3 * 3 * 8),
        (lambda a, b: a @ b.mT, (COMPLEX, COMPLEX), 4 * 2 * 3 * 3 * 8),
        (lambda a, b: torch.bmm(a, b.mT), (COMPLEX, COMPLEX), 4 * 2 * 3 * 3 * 8),
        (lambda a, b: torch.nn.functional.linear(a, b), (COMPLEX, torch.randn(5, 8) + 0j), 4 * 2 * 3 * 8 * 5),
        (lambda a, b: torch.baddbmm(torch.zeros(1), a, b.mT), (REAL, REAL), 2 * 3 * 3 * 8),
        (lambda a, b: torch.einsum("bij,bkj->bik", a, b), (REAL, REAL), 2 * 3 * 3 * 8),
        (lambda a, b: torch.einsum("bij,bkj->bik", a, b), (COMPLEX, COMPLEX), 4 * 2 * 3 * 3 * 8),
        (lambda a, b, c: torch.einsum("bij,bkj,bkl->bil", a, b, c), (REAL,) * 3, 2 * 3 * 3 * 8 + 2 * 3 * 3 * 8),
        (
            lambda q, k: torch.nn.functional.scaled_dot_product_attention(q, k, k),
            (torch.randn(2, 4, 5, 6), torch.randn(2, 4, 7, 6)),
            2 * 4 * 5 * 7 * (6 + 6),
        ),
        (
            torch.nn.functional.scaled_dot_product_attention,
            (torch.randn(1, 1, 5, 6), torch.randn(2, 4, 7, 6), torch.randn(2, 4, 7, 6)),
            2 * 4 * 5 * 7 * (6 + 6),
        ),
        (lambda a: torch.softmax(a.exp() + 1, -1).cumsum(1), (REAL,), 0),
        (torch.matmul, (torch.randn(5, 3), REAL), 2 * 5 * 3 * 8),  # one matrix for a whole batch
        (torch.matmul, (torch.randn(4, 1, 5, 3), torch.randn(1, 2, 3, 6)), 4 * 2 * 5 * 3 * 6),
        (torch.matmul, (torch.randn(3), REAL), 2 * 3 * 8),
        (torch.matmul, (REAL, torch.randn(8)), 2 * 3 * 8),
        (torch.mm, (COMPLEX[0], COMPLEX[0].mT.contiguous()), 4 * 3 * 3 * 8),
        (torch.mv, (REAL[0], torch.randn(8)), 3 * 8),
        (torch.dot, (torch.randn(8), torch.randn(8)), 8),
        (torch.addbmm, (torch.zeros(3, 3), REAL, REAL.mT.contiguous()), 2 * 3 * 3 * 8),
        (torch.square, (REAL,), 0),
        (torch.square, (COMPLEX,), 4 * 48),
        (torch.reciprocal, (COMPLEX,), 8 * 48),
        (torch.fft.rfft, (torch.randn(2, 15),), round(2 * 1.25 * 15 * math.log2(15))),
        (torch.fft.fft, (REAL,), 6 * 1.25 * 8 * 3),
        (lambda a, b: torch.einsum("...ij,kj->...ik", a, b), (REAL, torch.randn(5, 8)), 2 * 3 * 5 * 8),
        (lambda a, b: torch.einsum("...ij,...kj", a, b), (REAL, REAL), 2 * 3 * 3 * 8),
        (lambda a, b: torch.einsum("ij,ij->ij", a, b), (REAL[0], REAL[0, :1]), 0),
        (lambda a, b: torch.einsum("ij,ij->ij", a, b), (COMPLEX[0], COMPLEX[0, :1]), 4 * 24),
        (lambda a, b: torch.einsum("ij,ij->i", a, b), (REAL[0], REAL[0, :1]), 24),
        (lambda a, b: torch.einsum("ij,kl->il", a, b), (REAL[0], REAL[0]), 0),
        (lambda a: torch.einsum("ii->i", a), (torch.eye(9),), 0),
        (torch.nn.functional.conv1d, (REAL, torch.randn(5, 3, 2)), 2 * 5 * 7 * 3 * 2),
    ],
)
def test_operators(function: Callable[..., Tensor], inputs: tuple[Tensor, ...], expected: float) -> None:
    assert macs(function, *inputs) == expected


def test_einsum_is_exact() -> None:
    """Not rounded to four digits, as fvcore's own is."""
    a, b = torch.randn(101, 103), torch.randn(103, 107)
    assert macs(lambda a, b: torch.einsum("ij,jk->ik", a, b), a, b) == 101 * 103 * 107


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, u: Tensor) -> Tensor:
        return 2 * u

    @staticmethod
    def backward(_: Any, *dy: Tensor) -> Tensor:
        return 2 * dy[0]


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (torch.linalg.inv, "aten::linalg_inv"),
        (torch.fft.fft2, "aten::fft_fft2"),
        (Doubled.apply, "prim::PythonOp.Doubled"),
    ],
)
def test_a_heavy_operator_without_a_handle_is_an_error_that_names_it(
    function: Callable[..., Tensor], name: str
) -> None:
    with pytest.raises(Uncounted, match=rf"{name} \(3,200 numbers\)"):
        macs(function, torch.eye(40))
    assert macs(function, torch.eye(4)) == 0


def test_many_light_calls_are_heavy_together_and_lists_are_looked_into() -> None:
    def often(a: Tensor) -> Tensor:
        for _ in range(40):
            a = torch.linalg.inv(a)
        return a

    with pytest.raises(Uncounted, match=r"aten::linalg_inv \(1,280 numbers\)"):
        macs(often, torch.eye(4))
    with pytest.raises(Uncounted, match=r"aten::linalg_multi_dot"):
        macs(lambda a, b: torch.linalg.multi_dot([a, b, a]), torch.randn(20, 40), torch.randn(40, 20))


def test_attention_written_out_costs_the_same() -> None:
    q, k, v = (torch.randn(2, 4, 9, 6) for _ in range(3))
    fused = macs(torch.nn.functional.scaled_dot_product_attention, q, k, v)
    assert macs(lambda q, k, v: (q @ k.mT).softmax(-1) @ v, q, k, v) == fused
