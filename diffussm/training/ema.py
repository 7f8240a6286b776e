"""The exponential moving average of a model's weights."""

import torch
from torch import Tensor, nn


class EMA:
    """w <- d w + (1 - d) p after each step, d = min(decay, (1 + step) / (10 + step)): initial weights fade fast."""

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        named = dict(model.named_parameters(remove_duplicate=False))  # a tied weight under each of its names
        self.names = list(named)
        self.parameters = [p.detach() for p in named.values()]
        self.weights = [p.detach().clone() for p in named.values()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the average; call it after step `step`, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.weights, self.parameters, 1 - decay)

    def state_dict(self) -> dict[str, Tensor]:
        return dict(zip(self.names, self.weights, strict=True))

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, weight in zip(self.names, self.weights, strict=True):
            weight.copy_(state[name])
