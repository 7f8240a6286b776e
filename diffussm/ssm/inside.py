"""A mode in which counters see what S4D's operators run."""

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from diffussm.ssm.operators import KERNELS


class InsideOperators(TorchDispatchMode):
    """Shows to the modes outside of it, instead of an operator of S4D, those that it runs."""

    def __torch_dispatch__(self, operator: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        return KERNELS.get(operator, operator)(*args, **(kwargs or {}))
