"""Feature extractors: uint8 images in, layers out. Their names and weights are in the registry."""

import importlib
import io
from collections.abc import Collection

import numpy as np
import torch
from numpy.typing import NDArray

from diffussm.errors import UserError
from diffussm.metrics.features.registry import extractor_facts

Layers = dict[str, NDArray[np.float32]]  # features, spatial, logits: (N, size of the layer)


class Extractor:
    """The named network with its weights, which gives `layers`; UserError if the weights are missing or have another
    hash.

    It runs in float32. Grey images are repeated to the number of channels that it takes.
    """

    def __init__(
        self, name: str, layers: Collection[str], extractor_weights: str = "", device: torch.device | str = "cpu"
    ):
        self.facts = extractor_facts(name)
        names = {"features": self.facts.features, "spatial": self.facts.spatial, "logits": self.facts.logits}
        self.layers = {layer: names[layer] for layer in layers}  # our name -> the network's
        if missing := [layer for layer, name_in_network in self.layers.items() if not name_in_network]:
            raise UserError(f"evaluation.extractor = {name}: lacks {' and '.join(missing)}")
        module, _, attribute = self.facts.network.partition(":")
        network = getattr(importlib.import_module(module), attribute)
        content = io.BytesIO(self.facts.weights.read(extractor_weights))
        self.network = network(name, list(self.layers.values()), feature_extractor_weights_path=content)
        self.network.eval().requires_grad_(False).to(device)
        self.device = device

    @torch.no_grad()
    def __call__(self, pixels: NDArray[np.uint8]) -> Layers:
        """Map pixels (N, C, H, W) in 0 .. 255 to each layer (N, size of the layer), in order."""
        if not self.layers:
            return {}
        parts = [self._batch(torch.from_numpy(pixels[i : i + self.facts.batch])) for i in self._starts(len(pixels))]
        return {layer: np.concatenate([part[layer] for part in parts]) for layer in self.layers}

    def _starts(self, count: int) -> range:
        return range(0, count, self.facts.batch)

    def _batch(self, images: torch.Tensor) -> Layers:
        if images.shape[1] == 1:
            images = images.expand(-1, self.facts.channels, -1, -1)
        images = images.clone(
            memory_format=torch.contiguous_format
        )  # strides select kernels, which affect the last bits
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # TF32 has 10 of float32's 23 mantissa bits
            outputs = self.network(images.to(self.device))
        return {layer: out.float().cpu().numpy() for layer, out in zip(self.layers, outputs, strict=True)}
