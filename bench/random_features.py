"""Memory and time of an evaluation at the size used in the literature, with random features.

    python -m bench.random_features                      # 50,000 samples, 10,000 of the reference, 2,048 features
    python -m bench.random_features --samples 5000

`FACTS` is an extractor for `diffussm evaluate --extractor bench.random_features:FACTS`: its layers have the sizes of
Inception's and are computed by a fixed random matrix from images of 8 x 8 pixels, so that the evaluation itself
dominates the cost.
"""

import argparse
import hashlib
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from diffussm.data.pixels import write_npz
from diffussm.metrics.features.registry import ExtractorFacts
from diffussm.metrics.features.weights_file import WeightsFile

SIZES = {"features": 2048, "spatial": 2023, "logits": 1008}
SIDE = 8


class RandomFeatures(FeatureExtractorBase):
    """Rectified random projections of pixels, plus products of them."""

    def __init__(self, name: str, features_list: list[str], **_: Any) -> None:
        super().__init__(name, features_list)
        generator = torch.Generator().manual_seed(0)
        for layer, size in SIZES.items():
            self.register_buffer(layer, torch.randn(3 * SIDE * SIDE, size, generator=generator) / 14)

    def forward(self, input: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = input.flatten(1).float() / 127.5 - 1
        out = [(x @ self.get_buffer(layer)) for layer in self.features_list]
        return tuple(torch.relu(one + one.roll(7, 1) * one.roll(50, 1)) for one in out)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return tuple(SIZES)


_SELF = Path(__file__)
FACTS = ExtractorFacts(
    name="random-features",
    network=f"{__package__}.random_features:RandomFeatures",
    weights=WeightsFile(_SELF.name, hashlib.sha256(_SELF.read_bytes()).hexdigest(), "this file", _SELF),
    channels=3,
    image_size=SIDE,
    data="noise",
    scores=True,
    spatial="spatial",
    logits="logits",
)


def images(path: Path, count: int, seed: int) -> None:
    """Write an .npz of smooth noise."""
    generator = np.random.default_rng(seed)

    def batches() -> Any:
        for start in range(0, count, 1000):
            coarse = generator.normal(size=(min(1000, count - start), 3, 2, 2)).repeat(4, 2).repeat(4, 3)
            fine = generator.normal(size=(len(coarse), 3, SIDE, SIDE))
            yield (127.5 + 50 * coarse + (20 + 2 * seed) * fine).clip(0, 255).astype(np.uint8)

    write_npz(path, (3, SIDE, SIDE), count, batches())


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Evaluate random features at full size and report peak memory and time."
    )
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--reference", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        samples, reference = Path(folder) / "samples.npz", Path(folder) / "reference.npz"
        images(samples, options.samples, 0)
        images(reference, options.reference, 1)
        command = [sys.executable, "-m", "diffussm", "evaluate", str(samples), "--reference", str(reference)]
        began = time.monotonic()
        subprocess.run([*command, "--extractor", "bench.random_features:FACTS"], check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"peak memory {peak:.2f} GiB, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
