"""The embedded data sets' feature extractor: a small CNN. FID is on the 64 features before its classifier."""

import torch.nn.functional as F
from torch import Tensor, nn

FEATURES = 64


class SmallCNN(nn.Module):
    """Grey levels 0 .. 255 (B, C, S, S), S = 8, 16 or 32, uint8 or float -> features (B, 64), logits (B, classes)."""

    def __init__(self, channels: int, image_size: int, classes: int) -> None:
        super().__init__()
        self.first_pool = 1 if image_size == 8 else 2
        self.last_pool = 4 if image_size == 32 else 2
        self.conv_1 = nn.Conv2d(channels, 32, 3, padding=1)
        self.conv_2 = nn.Conv2d(32, 32, 3, padding=1)
        self.conv_3 = nn.Conv2d(32, 64, 3, padding=1)
        self.hidden = nn.Linear(64 * 2 * 2, FEATURES)
        self.classifier = nn.Linear(FEATURES, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.to(self.classifier.weight.dtype) / 127.5 - 1
        x = F.max_pool2d(F.gelu(self.conv_1(x)), self.first_pool)  # (B, 32, 8 or 16, ...)
        x = F.max_pool2d(F.gelu(self.conv_2(x)), 2)  # (B, 32, 4 or 8, ...)
        x = F.max_pool2d(F.gelu(self.conv_3(x)), self.last_pool)  # (B, 64, 2, 2)
        features = F.gelu(self.hidden(x.flatten(1)))
        return features, self.classifier(features)
