"""Feature extractors: uint8 images in, layers out. Names and weights are in the catalogue."""

import importlib
import io
from collections.abc import Collection

import numpy as np
import torch
from numpy.typing import NDArray

from diffussm.errors import UserError
from diffussm.metrics.features.registry import extractor_facts

Layers = dict[str, NDArray[np.float32]]  # of features, spatial, logits: (N, size of the layer)


class Extractor:
    """The named network with its weights, giving `layers`; UserError if the weights are not there, or are others.

    It runs in float32. Grey images are repeated to as many channels as it takes.
    """

    def __init__(
        self, name: str, layers: Collection[str], extractor_weights: str = "", device: torch.device | str = "cpu"
    ):
        self.facts = extractor_facts(name)
        theirs = {"features": self.facts.features, "spatial": self.facts.spatial, "logits": self.facts.logits}
        self.layers = {layer: theirs[layer] for layer in layers}
        if missing := [layer for layer, of_network in self.layers.items() if not of_network]:
            raise UserError(f"evaluation.extractor = {name}: has no {' and no '.join(missing)}")
        module, _, attribute = self.facts.network.partition(":")
        network = getattr(importlib.import_module(module), attribute)
        content = io.BytesIO(self.facts.weights.read(extractor_weights))
        self.network = network(name, list(self.layers.values()), feature_extractor_weights_path=content)
        self.network.eval().requires_grad_(False).to(device)
        self.device = device

    @torch.no_grad()
    def __call__(self, pixels: NDArray[np.uint8]) -> Layers:
        """pixels (N, C, H, W) in 0 .. 255 -> each layer (N, ...), in order."""
        if not self.layers:
            return {}
        parts = [self._batch(torch.from_numpy(pixels[i : i + self.facts.batch])) for i in self._starts(len(pixels))]
        return {layer: np.concatenate([part[layer] for part in parts]) for layer in self.layers}

    def _starts(self, count: int) -> range:
        return range(0, count, self.facts.batch)

    def _batch(self, images: torch.Tensor) -> Layers:
        if images.shape[1] == 1:
            images = images.expand(-1, self.facts.channels, -1, -1)
        images = images.clone(memory_format=torch.contiguous_format)  # strides choose kernels, and so the last bits
        with torch.backends.cudnn.flags(allow_tf32=False):  # which would be ten bits of a float32's 23
            outputs = self.network(images.to(self.device))
        return {layer: out.float().cpu().numpy() for layer, out in zip(self.layers, outputs, strict=True)}
