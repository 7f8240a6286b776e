"""clean-fid's FID (Parmar et al. 2022), by its own code: its resize, its network and its distance.

Its weights are read from where the user keeps them and their hash is checked; nothing is downloaded or written.
"""

import io
from collections.abc import Collection

import numpy as np
import torch
from cleanfid.fid import frechet_distance
from cleanfid.inception_torchscript import InceptionV3W
from cleanfid.resize import build_resizer
from numpy.typing import NDArray
from torchvision.transforms.functional import to_tensor

from diffussm.metrics.features.weights_file import CLEAN_FID
from diffussm.metrics.statistics.frechet import ROUNDING
from diffussm.metrics.statistics.protocol import Estimate, MetricInputs

MODES = {"clean_fid": "clean", "clean_fid_legacy": "legacy_tensorflow"}
BATCH = 50
EPS = 1e-6  # clean-fid adds it to both diagonals where the root of their product is not finite


class _Verified(InceptionV3W):
    """clean-fid's wrapper around weights that have already been read."""

    def __init__(self, content: bytes, resize_inside: bool):
        torch.nn.Module.__init__(self)
        self.base = torch.jit.load(io.BytesIO(content), map_location="cpu").eval()
        self.layers = self.base.layers
        self.resize_inside = resize_inside


class CleanFid:
    """The networks of `clean_fid`, `clean_fid_legacy`, or both."""

    def __init__(self, metrics: Collection[str], extractor_weights: str = "", device: torch.device | str = "cpu"):
        self.device = device
        content = CLEAN_FID.read(extractor_weights)
        self.networks = {
            metric: _Verified(content, resize_inside=mode != "clean").to(device)
            for metric, mode in MODES.items()
            if metric in metrics
        }

    @torch.no_grad()
    def __call__(self, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Map pixels (N, C, H, W) in 0 .. 255, C = 1 or 3, to features (N, 2048) for each metric."""
        out: dict[str, NDArray[np.float32]] = {}
        for metric, network in self.networks.items():
            resize = build_resizer(MODES[metric])
            parts = []
            for start in range(0, len(pixels), BATCH):
                images = (_resized(image, resize) for image in pixels[start : start + BATCH])
                with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                    parts.append(network(torch.stack(list(images)).to(self.device)).cpu().numpy())
            out[metric] = np.concatenate(parts)
        return out

    @staticmethod
    def distance(samples: NDArray[np.float32], reference: NDArray[np.float32]) -> tuple[float, float]:
        """Return the distance of features (n, 2048) and (m, 2048), and how far below zero rounding may take it."""
        a, b = ((features.mean(0), np.cov(features, rowvar=False)) for features in (samples, reference))
        rounding = ROUNDING * float(np.trace(a[1]) + np.trace(b[1])) + 2 * EPS * a[0].size
        return float(frechet_distance(*a, *b)), rounding


def measure(inputs: MetricInputs) -> Estimate:
    """Return clean-fid's distance, in either mode, without an interval."""
    value, rounding = CleanFid.distance(inputs.samples, inputs.reference.features)
    return Estimate(value, rounding=rounding)


def _resized(image: NDArray[np.uint8], resize) -> torch.Tensor:  # type: ignore[no-untyped-def]
    """Resize an image as clean-fid's data set does: (C, H, W) -> float (3, H', W') in 0 .. 255."""
    if len(image) == 1:
        image = image.repeat(3, 0)
    resized = resize(np.ascontiguousarray(image.transpose(1, 2, 0)))
    return to_tensor(resized) * 255 if resized.dtype == np.uint8 else to_tensor(resized)
