"""The feature extractor of the embedded data sets and of users' own, a small CNN.

FID uses the 64 features before its classifier.
"""

import io
from typing import Any

import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor, nn

from diffussm.metrics.features.registry import extractor_facts

FEATURES = 64
SPATIAL = 7  # channels, as many as sFID takes from Inception
LARGEST_MAP = 64  # positions a side of a convolution's output


class SmallCNN(nn.Module):
    """Pixels 0 .. 255 (B, C, S, S), S >= 8, uint8 or float -> features (B, 64), logits (B, classes).

    Beyond S = 32 there is one convolution more; beyond 64 the first one has a stride, so that it returns at most 64
    positions a side, whatever S.
    """

    def __init__(self, channels: int, image_size: int, classes: int) -> None:
        super().__init__()
        stride = -(-image_size // LARGEST_MAP)
        side = image_size // stride
        self.first_pool = 1 if side < 16 else 2
        self.conv_1 = nn.Conv2d(channels, 32, stride + 2, stride, padding=1)
        self.conv_large = nn.Conv2d(32, 32, 3, padding=1) if side > 32 else None
        self.conv_2 = nn.Conv2d(32, 32, 3, padding=1)
        self.conv_3 = nn.Conv2d(32, 64, 3, padding=1)
        self.hidden = nn.Linear(64 * 2 * 2, FEATURES)
        self.classifier = nn.Linear(FEATURES, classes)

    def maps(self, x: Tensor) -> Tensor:
        """Return the output of the last convolution: (B, 64, S', S'), S' = 4 .. 8; 4 if S = 8 or 16, 8 if 32 or 64."""
        x = x.to(self.classifier.weight.dtype) / 127.5 - 1
        x = F.max_pool2d(F.gelu(self.conv_1(x)), self.first_pool)
        if self.conv_large:
            x = F.max_pool2d(F.gelu(self.conv_large(x)), 2)
        x = F.max_pool2d(F.gelu(self.conv_2(x)), 2)
        return F.gelu(self.conv_3(x))

    def pooled(self, maps: Tensor) -> Tensor:
        """Return the features (B, 64) of maps."""
        return F.gelu(self.hidden(F.adaptive_max_pool2d(maps, 2).flatten(1)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.pooled(self.maps(x))
        return features, self.classifier(features)


class SmallCNNFeatures(nn.Module):
    """A trained SmallCNN with torch-fidelity's interface: layers `features`, `spatial` (7 S' S', flattened H, W, C) and
    `logits`. `feature_extractor_weights_path` is a safetensors file, an open one, or None for the shipped one.

    It is no subclass of theirs, which takes seconds to import, in every worker.
    """

    def __init__(self, name: str, features_list: list[str], feature_extractor_weights_path: Any = None) -> None:
        super().__init__()
        self.features_list = features_list
        facts, given = extractor_facts(name), feature_extractor_weights_path
        tensors = load(given.read() if isinstance(given, io.IOBase) else facts.weights.read(given or ""))
        assert facts.image_size is not None
        self.network = SmallCNN(facts.channels, facts.image_size, len(tensors["classifier.bias"]))
        self.network.load_state_dict(tensors)
        self.eval()

    def forward(self, input: Tensor) -> tuple[Tensor, ...]:
        maps = self.network.maps(input)
        features = self.network.pooled(maps)
        layers = {
            "features": features,
            "spatial": maps[:, :SPATIAL].permute(0, 2, 3, 1).flatten(1),
            "logits": self.network.classifier(features),
        }
        return tuple(layers[name] for name in self.features_list)
