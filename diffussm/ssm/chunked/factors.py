"""Tables of powers in two factors, for chunks of C = 16 q positions: a^(16 i + j) = coarse_i fine_j.

Each factor is an exponential in double precision, rounded once. Tables of one position after the other take their order
from that of the factors; sums over positions with powers as weights are sums over one factor and then over the other.
Complex tables have real and imaginary parts side by side where they are real (N in place of N/2).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from diffussm.precision import matrix_products
from diffussm.ssm.backends import FACTOR
from diffussm.ssm.parameters import Discretised


class Factors(NamedTuple):
    """a^0 .. a^(C - 1) of two layers."""

    coarse: Tensor  # (2, D, C/16, N/2)
    fine: Tensor  # (2, D, 16, N/2)

    def ordered(self, first_descends: bool, second_descends: bool) -> "Factors":
        """Return the factors of powers that ascend or descend from one position to the next."""
        return Factors(*(_ordered(factor, first_descends, second_descends) for factor in self))

    def table(self) -> Tensor:
        """Return the powers: (2, D, C, N) real."""
        product = self.coarse[:, :, :, None] * self.fine[:, :, None]
        return torch.view_as_real(product).flatten(-2).flatten(2, 3)

    def scaled(self, by: Tensor) -> "Factors":
        """Return the factors of powers times `by` (2, D, N/2)."""
        return self._replace(coarse=self.coarse * by.to(self.coarse.dtype)[:, :, None])

    def conjugate(self) -> "Factors":
        """Return the factors of conjugate powers."""
        return Factors(*(factor.conj_physical() for factor in self))


def factors(z: Tensor, chunk: int, dtype: torch.dtype) -> Factors:
    """Return the factors of exp(l z), l < C; z (2, D, N/2) is in double precision."""
    fine = torch.arange(FACTOR, device=z.device)
    coarse = FACTOR * torch.arange(chunk // FACTOR, device=z.device)
    powers = (z[:, :, None] * torch.cat([coarse, fine])[:, None]).exp().to(dtype.to_complex())
    return Factors(*powers.split([len(coarse), FACTOR], dim=2))


def outward(discretised: Discretised, powers: Factors, reverse: bool) -> Tensor:
    """Return conj(c a^l) for l = 1 .. C (2, D, C, N), in reverse order for the second layer if `reverse`: a state in
    real numbers times that is what leaves it."""
    first = (discretised.c * (discretised.growth + 1)).conj_physical()  # c a
    return powers.conjugate().scaled(first).ordered(False, reverse).table()


def toeplitz(discretised: Discretised, weights: Tensor, skip: Tensor, reverse: bool, dtype: torch.dtype) -> Tensor:
    """Return K by lag (2, D, 2C - 1) in `dtype`, from i - j = 1 - C to C - 1 for input j and output i; `weights` are
    those of `outward`."""
    chunk = weights.shape[2]
    later = weights[..., 0::2].sum(-1)  # (2, D, C): K_1 .. K_C
    by_lag = weights.new_zeros(*later.shape[:2], 2 * chunk - 1, dtype=dtype)
    by_lag[..., chunk - 1] = discretised.c.real.sum(-1) + skip
    for layer, mirrored in enumerate((False, reverse)):
        target = by_lag[layer, :, : chunk - 1] if mirrored else by_lag[layer, :, chunk:]
        target.copy_(later[layer, :, 1:] if mirrored else later[layer, :, :-1])
    return by_lag


def matrix(by_lag: Tensor) -> Tensor:
    """Return T[i, j] = K_(i - j): (..., 2C - 1) -> (..., C, C)."""
    return by_lag.unfold(-1, (by_lag.shape[-1] + 1) // 2, 1).flip(-1)


def weighted_sums(
    gradient: Tensor, powers: Factors, first_descends: bool, second_descends: bool
) -> tuple[Tensor, Tensor]:
    """Return sum_l g_l a^l and sum_l l g_l a^l, both (2, D, N/2), of a gradient (2, D, C, N/2) whose positions are in
    this order."""
    descends = (first_descends, second_descends)
    coarse, fine = powers.ordered(*descends)
    products = torch.view_as_real(gradient.unflatten(2, (-1, FACTOR)) * fine[:, :, None]).flatten(-2)
    with matrix_products(tf32=False):
        sums = _weights(products, descends)[:, None, None] @ products  # (2, D, C/16, 2, N)
    return _over_coarse(sums, coarse, descends)


def weighted_sums_of_kernel(gradient: Tensor, powers: Factors) -> tuple[Tensor, Tensor]:
    """Return the same of a real gradient (2, D, C), in ascending order."""
    ascends = (False, False)
    by_factor = gradient.unflatten(2, (-1, 1, FACTOR)) * _weights(gradient, ascends)[0]  # (2, D, C/16, 2, 16)
    fine = torch.view_as_real(powers.fine).flatten(-2)
    with matrix_products(tf32=False):
        sums = torch.bmm(by_factor.view(-1, 2 * by_factor.shape[2], FACTOR), fine.flatten(0, 1))
    return _over_coarse(sums.view(*by_factor.shape[:4], -1), powers.coarse, ascends)


def _over_coarse(sums: Tensor, coarse: Tensor, descends: tuple[bool, bool]) -> tuple[Tensor, Tensor]:
    """Return both sums from those over fine powers (2, D, C/16, 2, N), plain and by position."""
    products = torch.view_as_complex(sums.unflatten(-1, (-1, 2))) * coarse[:, :, :, None]
    plain, by_position = products.unbind(3)  # (2, D, C/16, N/2)
    position = FACTOR * _positions(sums, coarse.shape[2], descends)[:, None, :, None]
    return plain.sum(2), (by_position + plain * position).sum(2)


def _weights(like: Tensor, descends: tuple[bool, bool]) -> Tensor:
    """Return ones and positions (2, 2, 16) of two layers."""
    position = _positions(like, FACTOR, descends)
    return torch.stack([torch.ones_like(position), position], dim=1)


def _positions(like: Tensor, count: int, descends: tuple[bool, bool]) -> Tensor:
    """Return 0 .. count - 1 of two layers (2, count), in either order."""
    position = torch.arange(count, device=like.device, dtype=like.dtype)
    return torch.stack([position.flip(0) if one else position for one in descends])


def _ordered(factor: Tensor, first_descends: bool, second_descends: bool) -> Tensor:
    if first_descends == second_descends:
        return factor.flip(2) if first_descends else factor
    first, second = factor
    return torch.stack([first.flip(1) if first_descends else first, second.flip(1) if second_descends else second])
