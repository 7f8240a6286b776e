"""The blocks of a model one after another, as both models have them: how they are computed in training."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Blocks(nn.ModuleList):
    """Blocks (x, condition) -> x in a row.

    With `recompute`, autograd keeps the input of each block alone, and computes the block again in the backward pass
    (torch.utils.checkpoint). Only where a block `draws` random numbers itself, as an external mixer may, the state of
    torch's generators is kept for that.
    """

    def __init__(self, blocks: Iterable[nn.Module], draws: bool = False):
        super().__init__(blocks)
        self.draws, self.recompute = draws, False

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        for block in self:
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(block, x, condition, use_reentrant=False, preserve_rng_state=self.draws)
            else:
                x = block(x, condition)
        return x
