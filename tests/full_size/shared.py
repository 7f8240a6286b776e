"""What the processes of full size share: configs, the memory of a process, digests, and the speed of the disk."""

import contextlib
import hashlib
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffussm.config import Config
from diffussm.data.lookup.resolution import resolve_with_data
from tests.support.prepared_set import write_latents

MODELS = {"DiffuSSM-XL": ("diffussm", 29), "DiT-XL/2": ("dit", 28)}  # kind and depth
BLOCK = 1 << 24
SAMPLING_SECONDS = 0.02


def config_of(folder: Path, model: str, depth: int | None = None) -> Config:
    """Return the config of base `imagenet256` at one image a step in float32, on a few latents in the folder."""
    data = folder / "data"
    if not data.exists():
        drawn = np.random.default_rng(0).normal(size=(20, 1, 2, 4, 32, 32)).astype(np.float32)
        drawn[:, :, 1] = 0.1
        write_latents(data, drawn, labels=np.arange(20), classes=tuple(f"class {i}" for i in range(1000)))
    kind, full = MODELS[model]
    settings: dict[str, Any] = {"model.kind": kind, "model.depth": depth or full, "model.image_size": 32}
    settings |= {"model.patch": 2} if kind == "dit" else {}
    settings |= {"data.name": "mine", "data.root": str(data), "data.flip": False}
    settings |= {"data.transform": "centre-crop 32", "data.decoded_size": 32}
    settings |= {"training.batch": 1, "training.precision": "float32"}
    return resolve_with_data("imagenet256", settings)


def tensors(content: Any) -> list[Tensor]:
    """Return the tensors in nested dictionaries, in their order."""
    if isinstance(content, dict):
        return [tensor for part in content.values() for tensor in tensors(part)]
    return [content] if isinstance(content, Tensor) else []


def digest(content: Any) -> str:
    """Return the SHA-256 of all tensors."""
    found = hashlib.sha256()
    for tensor in tensors(content):
        found.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def anonymous_bytes() -> int:
    """Return the memory of this process that is not of files, which the system can drop."""
    status = Path("/proc/self/status").read_text()
    return sum(1024 * int(kilobytes) for kilobytes in re.findall(r"Rss(?:Anon|Shmem):\s+(\d+)", status))


class Peak:
    """The largest memory of this process since it was made, above that at the time."""

    def __init__(self) -> None:
        self._before = self._largest = anonymous_bytes()
        threading.Thread(target=self._sample, daemon=True).start()

    @property
    def bytes(self) -> int:
        return self._largest - self._before

    def _sample(self) -> None:
        while True:
            self._largest = max(self._largest, anonymous_bytes())
            time.sleep(SAMPLING_SECONDS)


def dd_seconds(folder: Path, size: int) -> float:
    """Return how long `dd conv=fsync` takes to write so many bytes."""
    path = folder / "dd"
    start = time.monotonic()
    command = ["dd", "if=/dev/zero", f"of={path}", f"bs={BLOCK}", f"count={-(-size // BLOCK)}", "conv=fsync"]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    seconds = time.monotonic() - start
    path.unlink()
    return seconds


def kill_first() -> None:
    """Let the system kill this process first if memory runs out."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


@contextlib.contextmanager
def timed(into: list[float]) -> Iterator[None]:
    """Append the seconds that the inside takes."""
    start = time.monotonic()
    try:
        yield
    finally:
        into.append(time.monotonic() - start)


def available_bytes() -> int:
    """Return how much memory processes can still take."""
    found = re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text())
    assert found
    return 1024 * int(found[1])


def free_bytes(folder: Path) -> int:
    """Return the room on the folder's disk."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
