"""Feature extractors: images in, features and class logits out. Names and weights are in the catalogue."""

import hashlib
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load

from diffussm.errors import UserError
from diffussm.metrics.catalogue import extractor_facts
from diffussm.metrics.small_cnn import SmallCNN


class Extracted(NamedTuple):
    features: NDArray[np.float64]  # (N, d)
    logits: NDArray[np.float64]  # (N, classes)


class Extractor(Protocol):
    def __call__(self, pixels: NDArray[np.uint8]) -> Extracted:
        """pixels (N, C, H, W) in 0 .. 255 -> features and logits of each, in order."""


class NetworkExtractor:
    """A network with shipped weights, run in float32 on the CPU in batches of fixed size: the same at every call.

    Grey images are repeated to as many channels as it takes.
    """

    BATCH = 500

    def __init__(self, network: torch.nn.Module, channels: int):
        self.network, self.channels = network.eval(), channels

    @torch.no_grad()
    def __call__(self, pixels: NDArray[np.uint8]) -> Extracted:
        images = torch.from_numpy(pixels)
        if images.shape[1] == 1:
            images = images.expand(-1, self.channels, -1, -1)
        outputs = [self.network(batch) for batch in images.split(self.BATCH)]
        features, logits = (torch.cat(part).double().numpy() for part in zip(*outputs, strict=True))
        return Extracted(features, logits)


def load_extractor(name: str, expected_sha256: str) -> Extractor:
    """The extractor of that name; UserError if its weights are not the expected ones."""
    facts = extractor_facts(name)
    content = facts.weights.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != expected_sha256:
        raise UserError(f"evaluation.extractor = {name}: weights have sha256 {found}, expected {expected_sha256}")
    network = SmallCNN(facts.channels, facts.image_size, facts.classes)
    network.load_state_dict(load(content))
    return NetworkExtractor(network, facts.channels)
