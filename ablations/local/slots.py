"""The slots of this machine: how many runs it works on at a time, and with which cores and GPUs."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from ablations.local.gpu_locks import Locks, lock_gpus, unlock
from diffussm.host.machine import gpus, memory_gb


@dataclass(frozen=True)
class SlotLayout:
    """Room for `slots` runs at a time, each with `threads` threads, and with a GPU where there are any.

    Runs share GPUs only if there are more slots than GPUs.
    """

    slots: int
    threads: int
    gpus: tuple[str, ...] = field(default_factory=lambda: tuple(gpus()))
    memory_gb: float = field(default_factory=memory_gb)

    def spread_over_gpus(self, slots: list[int]) -> list[int]:
        """Return the slots in an order in which those at the front have different GPUs."""
        count = max(1, len(self.gpus))
        one_per_gpu = {slot % count: slot for slot in reversed(slots)}.values()
        return [*sorted(one_per_gpu), *(slot for slot in slots if slot not in one_per_gpu)]

    def gpus_of(self, slots: Iterable[int]) -> tuple[str, ...]:
        """Return the GPUs that a worker on these slots sees, named as in CUDA_VISIBLE_DEVICES."""
        return tuple(dict.fromkeys(self.gpus[slot % len(self.gpus)] for slot in slots)) if self.gpus else ()

    def lock(self, slots: Iterable[int]) -> Locks | None:
        """Return locks of the GPUs of these slots; None if another launch uses one of them."""
        return lock_gpus(self.gpus_of(slots), shared=self.slots > len(self.gpus)) if self.gpus else []

    def in_use_elsewhere(self, slots: Iterable[int]) -> list[int]:
        """Return those of the slots, none of which has a worker, whose GPU another launch uses."""
        return [slot for slot in slots if not self._can_lock(slot)]

    def _can_lock(self, slot: int) -> bool:
        if locks := self.lock([slot]):
            unlock(locks)
        return locks is not None
