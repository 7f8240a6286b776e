"""The reference that every backend is tested against: the S4D recurrence in float64, one position after the other.

`recurrence` is plain torch, differentiable by autograd: the ground truth. The backend computes the same, and in the
backward pass the recurrence again and its adjoint, from the other end:

    x_l = a x_(l-1) + b u_l,  y_l = 2 Re(c x_l);    g_l = conj(a) g_(l+1) + 2 conj(c) dy_l,  du_l = Re(conj(b) g_l)
"""

import torch
from torch import Tensor

from diffussm.ssm.operators import Gradients, Kernels, operator
from diffussm.ssm.parameters import S4DParameters


def convolve(p: S4DParameters, u: Tensor, bidirectional: bool) -> Tensor:
    """Return y (B, L, 2D) of two S4D layers on u (B, L, D); the second runs right to left if `bidirectional`."""
    if torch.jit.is_tracing():  # type: ignore[attr-defined]  # costs are counted from what is inside
        return recurrence(p, u, bidirectional)
    return _convolve(p, u, bidirectional)


def recurrence(p: S4DParameters, u: Tensor, bidirectional: bool) -> Tensor:
    """Return y (B, L, 2D) of two S4D layers on u (B, L, D); the second runs right to left if `bidirectional`."""
    second = _run(p, 1, u.flip(1)).flip(1) if bidirectional else _run(p, 1, u)
    return torch.cat([_run(p, 0, u), second], dim=-1).to(u.dtype)


def _run(p: S4DParameters, layer: int, u: Tensor) -> Tensor:
    a_bar, b_bar, c = _discretised(p, layer)[1:]
    u = u.double()
    outputs = [2 * (c * x).sum(-1).real for x in _states(a_bar, b_bar, u)]
    return torch.stack(outputs, dim=1) + p.skip[layer].double() * u  # (B, L, D)


def _discretised(p: S4DParameters, layer: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return A, its zero-order hold exp(dt A) and (exp(dt A) - 1)/A, and c, all (D, N/2)."""
    dt = p.log_dt[layer].double().exp()[:, None]
    a = torch.complex(-p.log_decay[layer].double().exp(), p.frequency[layer].double())
    a_bar = (dt * a).exp()
    return a, a_bar, (a_bar - 1) / a, torch.view_as_complex(p.c[layer].double())


def _states(a_bar: Tensor, b_bar: Tensor, u: Tensor) -> list[Tensor]:
    """Return the L states (B, D, N/2)."""
    x, states = torch.zeros(u.shape[0], *a_bar.shape, dtype=a_bar.dtype, device=u.device), []
    for position in range(u.shape[1]):
        x = a_bar * x + b_bar * u[:, position, :, None]
        states.append(x)
    return states


def _forward(p: S4DParameters, u: Tensor, bidirectional: bool) -> tuple[Tensor, list[Tensor]]:
    return recurrence(p, u, bidirectional), []


def _empty(_: S4DParameters, u: Tensor, __: bool) -> tuple[Tensor, list[Tensor]]:
    batch, length, width = u.shape
    return u.new_empty(batch, length, 2 * width), []


def _backward(p: S4DParameters, kept: list[Tensor], dy: Tensor, bidirectional: bool) -> Gradients:
    (u,) = kept
    inputs, layers = [], []
    for layer, (reverse, g) in enumerate(zip((False, bidirectional), dy.double().chunk(2, dim=-1), strict=True)):
        x, g = (one.flip(1) if reverse else one for one in (u.double(), g))
        dx, *gradients = _run_backward(p, layer, x, g)
        inputs.append((dx.flip(1) if reverse else dx).to(u.dtype))
        layers.append(gradients)
    stacked = (torch.stack(both) for both in zip(*layers, strict=True))
    return inputs[0] + inputs[1], *(gradient.to(like.dtype) for gradient, like in zip(stacked, p, strict=True))


def _run_backward(p: S4DParameters, layer: int, u: Tensor, dy: Tensor) -> list[Tensor]:
    """Return the gradients with respect to u and each parameter of a layer that runs left to right."""
    a, a_bar, b_bar, c = _discretised(p, layer)
    states = _states(a_bar, b_bar, u)
    g, du = torch.zeros_like(states[0]), torch.empty_like(u)
    da_bar, db_bar, dc = torch.zeros_like(a), torch.zeros_like(a), torch.zeros_like(a)
    for position in reversed(range(u.shape[1])):
        out = dy[:, position, :, None]
        g = a_bar.conj_physical() * g + 2 * c.conj_physical() * out
        du[:, position] = (b_bar.conj_physical() * g).sum(-1).real
        dc += 2 * (out * states[position].conj_physical()).sum(0)
        db_bar += (u[:, position, :, None] * g).sum(0)
        if position > 0:
            da_bar += (states[position - 1].conj_physical() * g).sum(0)
    da_bar += db_bar / a.conj_physical()
    dz = da_bar * a_bar.conj_physical()
    dt = p.log_dt[layer].double().exp()[:, None]
    da = dz * dt - db_bar * (b_bar / a).conj_physical()
    d_log_dt = (dz * a.conj_physical()).real.sum(-1) * dt[:, 0]
    dskip = (u * dy).sum((0, 1))
    return [du + p.skip[layer].double() * dy, d_log_dt, da.real * a.real, da.imag, torch.view_as_real(dc), dskip]


_convolve = operator("reference", Kernels(_forward, _backward, _empty, needs_input=True, keeps=False))
