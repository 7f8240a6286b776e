"""AdamW as torch computes it, in its fused form, without what torch imports to go with `torch.compile`.

`torch.optim.AdamW` imports the compiler's front end at construction and at each step: 1.5 to 3 s of every process that
trains. The function that it calls needs none of it, and does everything but keep the state. (Loshchilov and Hutter,
2019. With several processes, DDP imports the compiler all the same.)
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim.adamw import adamw

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8  # torch's


class AdamW:
    """AdamW over parameter groups {params, lr, weight_decay}; its state_dict has the layout of torch's."""

    def __init__(self, groups: Iterable[Mapping[str, Any]]):
        self._groups = [(list(group["params"]), group["lr"], group["weight_decay"]) for group in groups]
        self._params: list[Tensor] = [p for params, _, _ in self._groups for p in params]
        self._state: dict[Tensor, dict[str, Tensor]] = {}

    @torch.no_grad()
    def clip_gradients(self, norm: float) -> None:
        """Scale all gradients together where their norm is larger. Nothing waits for a GPU."""
        clip_grad_norm_(self._params, norm)

    def zero_grad(self) -> None:
        for p in self._params:
            p.grad = None

    @torch.no_grad()
    def step(self, lr_factor: float = 1.0) -> None:
        """Update all parameters that have a gradient, with the groups' learning rates times a factor."""
        for params, lr, weight_decay in self._groups:
            with_grad = [p for p in params if p.grad is not None]
            states = [self._state_of(p) for p in with_grad]
            adamw(
                with_grad,
                [p.grad for p in with_grad if p.grad is not None],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                amsgrad=False,
                beta1=BETA1,
                beta2=BETA2,
                lr=lr * lr_factor,
                weight_decay=weight_decay,
                eps=EPS,
                maximize=False,
            )

    def state_dict(self) -> dict[str, Any]:
        return {"state": {i: self._state[p] for i, p in enumerate(self._params) if p in self._state}}

    def load_state_dict(self, content: Mapping[str, Any]) -> None:
        """Load a state_dict; raise ValueError if a moment's shape is not its parameter's.

        The fused step would read past its end.
        """
        self._state = {}
        for i, state in content["state"].items():
            p = self._params[i]
            if not state["exp_avg"].shape == state["exp_avg_sq"].shape == p.shape:
                raise ValueError(f"moments of parameter {i} are not of its shape {tuple(p.shape)}")
            self._state[p] = {name: value.to(p.device).clone() for name, value in state.items()}

    def _state_of(self, p: Tensor) -> dict[str, Tensor]:
        if p not in self._state:
            self._state[p] = {
                "step": torch.zeros((), dtype=torch.float32, device=p.device),
                "exp_avg": torch.zeros_like(p),
                "exp_avg_sq": torch.zeros_like(p),
            }
        return self._state[p]
