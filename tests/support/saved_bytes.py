"""What autograd really keeps of a forward pass: hooks see every saved tensor, and a storage counts once."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from diffussm.config import Config
from diffussm.cost.kernels import autocast_without_gpu
from diffussm.diffusion.gaussian import GaussianDiffusion
from diffussm.diffusion.sampling import training_schedule
from diffussm.models.build import build_uninitialised


class SavedBytes:
    """The bytes of storages that autograd keeps, by the module that is running, without parameters and buffers."""

    def __init__(self, model: nn.Module):
        self._excluded = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
        self._storages: dict[int, Any] = {}  # kept alive, so that none takes the place of another
        self._running = ["loss"]
        self.by_module: Counter[str] = Counter()
        for name, module in model.named_modules():
            module.register_forward_pre_hook(lambda *_, name=name: self._running.append(name))
            module.register_forward_hook(lambda *_: self._leave())

    def _leave(self) -> None:
        self._running.pop()

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._excluded | self._storages.keys():
            self._storages[storage._cdata] = storage
            self.by_module[self._running[-1]] += storage.nbytes()
        return tensor

    def of(self, *modules: str) -> int:
        """Return the bytes of modules and of those inside them."""
        inside = tuple(f"{module}." for module in modules)
        return sum(size for name, size in self.by_module.items() if name in modules or name.startswith(inside))


def saved_bytes(
    config: Config, backend: str, images: int, device: str = "cpu", checkpointing: bool = False
) -> SavedBytes:
    """Return what autograd keeps of a training step's forward pass, loss included.

    `meta` takes no memory; nor does `cuda`, whose tensors are fake: what autocast does on a GPU is seen without one.
    """
    with _device(device):
        model = build_uninitialised(config.model, config.outputs, backend)
        if device == "cpu":
            for parameter in model.parameters():
                nn.init.constant_(parameter, -1e-2)
        model.blocks.recompute = checkpointing
        m = config.model
        x, index = torch.zeros(images, m.channels, m.image_size, m.image_size), torch.zeros(images, dtype=torch.long)
        diffusion = GaussianDiffusion(training_schedule(config.diffusion), config.diffusion, device)
        saved = SavedBytes(model)
        with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
            with autocast_without_gpu(config.training.precision, device):
                output = model(x, index, index)
            diffusion.losses(output.float(), x, x, index, x).total.mean()
    return saved


@contextmanager
def _device(device: str) -> Iterator[None]:
    """Make tensors on a device; on `cuda` they are fake, and attention is that of its fused kernels."""
    with torch.device(device):
        if device != "cuda":
            yield
            return
        with FakeTensorMode(), patch("torch.nn.functional.scaled_dot_product_attention", _fused_attention):
            yield


def _fused_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return attention by the kernel that torch has for the precision on a GPU; without one it would take another."""
    if q.dtype == torch.bfloat16:
        return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)[0]
    return torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, None, True)[0]
