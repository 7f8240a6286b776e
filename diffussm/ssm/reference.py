"""The reference that every backend is tested against: the S4D recurrence in float64, one position after the other."""

import torch
from torch import Tensor

from diffussm.ssm.parameters import S4DParameters


def recurrence(p: S4DParameters, u: Tensor, bidirectional: bool) -> Tensor:
    """Return y (B, L, 2D) of two S4D layers on u (B, L, D); the second runs right to left if `bidirectional`."""
    second = _run(p, 1, u.flip(1)).flip(1) if bidirectional else _run(p, 1, u)
    return torch.cat([_run(p, 0, u), second], dim=-1).to(u.dtype)


def _run(p: S4DParameters, layer: int, u: Tensor) -> Tensor:
    dt = p.log_dt[layer].double().exp()[:, None]
    a = torch.complex(-p.log_decay[layer].double().exp(), p.frequency[layer].double())  # (D, N/2)
    c = torch.view_as_complex(p.c[layer].double())
    a_bar = (dt * a).exp()
    b_bar = (a_bar - 1) / a
    u = u.double()
    x = torch.zeros(u.shape[0], *a.shape, dtype=a.dtype, device=u.device)  # (B, D, N/2)
    outputs = []
    for position in range(u.shape[1]):
        x = a_bar * x + b_bar * u[:, position, :, None]
        outputs.append(2 * (c * x).sum(-1).real)
    return torch.stack(outputs, dim=1) + p.skip[layer].double() * u  # (B, L, D)
