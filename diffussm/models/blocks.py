"""The blocks of a model one after another, as both models have them: how they are computed in training."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from diffussm.errors import UserError

COMPILER = "inductor"


class Blocks(nn.ModuleList):
    """Blocks (x, condition) -> x in a row.

    With `recompute`, autograd keeps the input of each block alone, and computes the block again in the backward pass
    (torch.utils.checkpoint). Only where a block `draws` random numbers itself, as an external mixer may, the state of
    torch's generators is kept for that.
    """

    def __init__(self, blocks: Iterable[nn.Module], draws: bool = False):
        super().__init__(blocks)
        self.draws, self.recompute = draws, False

    def compile_each(self) -> None:
        """Let torch.compile make one graph of each block. Blocks of one shape share it, and each number of images has
        its own, so that bits depend on the number alone and not on those before it.

        Graphs of other models of this process are dropped. DistributedDataParallel needs no graph of its own to overlap
        communication with the backward pass of blocks. Raises UserError if there is no compiler of C++.
        """
        from torch._dynamo import config as dynamo
        from torch._inductor import cpp_builder, exc

        try:
            cpp_builder.get_cpp_compiler()
        except exc.InvalidCxxCompiler:
            raise UserError(
                "training.compile = block: needs a compiler of C++, such as g++ or the one in $CXX; or choose none "
                "(--compile none continues a run without)"
            ) from None
        dynamo.optimize_ddp = False
        torch.compiler.reset()
        for block in self:
            block.compile(fullgraph=True, dynamic=False, backend=COMPILER)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        for block in self:
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(block, x, condition, use_reentrant=False, preserve_rng_state=self.draws)
            else:
                x = block(x, condition)
        return x
