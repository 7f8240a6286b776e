"""The slots of this machine: how many runs it works on at a time, and with which cores and GPUs."""

from dataclasses import dataclass, field

from diffussm.host.machine import gpus, memory_gb


@dataclass(frozen=True)
class SlotLayout:
    """Room for `slots` runs at a time, each with `threads` threads, and with a GPU where there are any."""

    slots: int
    threads: int
    gpus: tuple[str, ...] = field(default_factory=lambda: tuple(gpus()))
    memory_gb: float = field(default_factory=memory_gb)

    def spread_over_gpus(self, slots: list[int]) -> list[int]:
        """Return the slots in an order in which those at the front have different GPUs."""
        count = max(1, len(self.gpus))
        one_per_gpu = {slot % count: slot for slot in reversed(slots)}.values()
        return [*sorted(one_per_gpu), *(slot for slot in slots if slot not in one_per_gpu)]

    def visible_devices(self, slots: tuple[int, ...]) -> str | None:
        """CUDA_VISIBLE_DEVICES of a worker on these slots; None if there are no GPUs."""
        if not self.gpus:
            return None
        return ",".join(dict.fromkeys(self.gpus[slot % len(self.gpus)] for slot in slots))
