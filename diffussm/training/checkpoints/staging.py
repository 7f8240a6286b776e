"""A copy of the training's state in host memory, from which a checkpoint is written while the state changes."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

ALIGNMENT = 64
PAGE = 4096
PREPARED_AT_ONCE = 1 << 28  # bytes


class Staging:
    """Host memory that is reserved once, for tensors of `device`; page-locked if that is a GPU.

    It is as large as the state: what `copy` returned is overwritten by the next copy.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._memory = torch.empty(0, dtype=torch.uint8)
        self._is_locked = False

    def prepare(self, size: int) -> None:
        """Reserve memory for `size` bytes of tensors, all at once: a first copy into pages that the system has yet to
        find takes several times as long."""
        if size <= len(self._memory):
            return
        self.close()
        self._memory = torch.empty(size, dtype=torch.uint8)
        for start in range(0, size, PREPARED_AT_ONCE):
            self._memory[start : start + PREPARED_AT_ONCE : PAGE] = 0
        if self._device.type == "cuda":
            result = torch.cuda.cudart().cudaHostRegister(self._memory.data_ptr(), size, 0)
            self._is_locked = int(result) == 0  # without, copies are slower and nothing else

    def copy(self, content: dict[str, Any]) -> dict[str, Any]:
        """Return the content, dictionaries of tensors and other values, with copies of all tensors.

        All of it is copied when this returns.
        """
        self.prepare(staged_bytes(content))
        copied, _ = self._copy(content, 0)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        assert isinstance(copied, dict)
        return copied

    def close(self) -> None:
        """Give the memory back."""
        if self._is_locked:
            torch.cuda.cudart().cudaHostUnregister(self._memory.data_ptr())
        self._is_locked, self._memory = False, torch.empty(0, dtype=torch.uint8)

    def _copy(self, value: Any, place: int) -> tuple[Any, int]:
        """Return the value with copies of its tensors, which begin at a place of the memory, and where they end."""
        if isinstance(value, Mapping):
            out = {}
            for name, part in value.items():
                out[name], place = self._copy(part, place)
            return out, place
        if not isinstance(value, Tensor):
            return value, place
        # `frombuffer` makes a storage of each tensor's own: torch.save writes whole storages.
        copied = (
            torch.frombuffer(self._memory.numpy(), dtype=value.dtype, count=value.numel(), offset=place)
            if value.numel()
            else torch.empty(0, dtype=value.dtype)
        ).reshape(value.shape)
        copied.copy_(value, non_blocking=True)
        return copied, place + _aligned(value.nbytes)


def staged_bytes(value: Any) -> int:
    """Return how much host memory a copy of the tensors in nested dictionaries and lists takes."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        return sum(map(staged_bytes, value))
    return _aligned(value.nbytes) if isinstance(value, Tensor) else 0


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
