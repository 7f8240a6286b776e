"""The digits' feature extractor: a small CNN, how it was trained, and the command that made its weights.

    python -m diffussm.metrics.digits_cnn --out diffussm/metrics/weights/digits_cnn.safetensors

Trained on four digits of five, in data order (index % 5 != 0), tested on the fifth. FID is on the 64 features before
the classifier; label accuracy on the classifier's largest logit.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from diffussm.data.images import load
from diffussm.rng import Stream, integers, name_counter, permutation, uniform

FEATURES = 64
EPOCHS = 32
BATCH = 64
SEED = 0


class DigitsCNN(nn.Module):
    """uint8 or float grey levels 0 .. 255 (B, 1, 8, 8) -> features (B, 64), logits (B, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv_2 = nn.Conv2d(32, 32, 3, padding=1)
        self.conv_3 = nn.Conv2d(32, 64, 3, padding=1)
        self.hidden = nn.Linear(64 * 2 * 2, FEATURES)
        self.classifier = nn.Linear(FEATURES, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.to(self.classifier.weight.dtype) / 127.5 - 1
        x = F.gelu(self.conv_1(x))  # (B, 32, 8, 8)
        x = F.max_pool2d(F.gelu(self.conv_2(x)), 2)  # (B, 32, 4, 4)
        x = F.max_pool2d(F.gelu(self.conv_3(x)), 2)  # (B, 64, 2, 2)
        features = F.gelu(self.hidden(x.flatten(1)))
        return features, self.classifier(features)


def split() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(training pixels, labels), (held-out pixels, labels)."""
    images = load("digits")
    pixels, labels = torch.from_numpy(images.pixels), torch.from_numpy(images.labels)
    held_out = torch.arange(len(labels)) % 5 == 0
    return (pixels[~held_out], labels[~held_out]), (pixels[held_out], labels[held_out])


def train() -> DigitsCNN:
    """AdamW with a cosine rate and shifts of at most one pixel; the same weights at every call on one machine."""
    (pixels, labels), _ = split()
    model = DigitsCNN()
    with torch.no_grad():
        for name, p in model.named_parameters():
            fan_in = p[0].numel() if p.dim() > 1 else 0
            limit = (3 / fan_in) ** 0.5 if fan_in else 0.0
            draw = uniform(SEED, Stream.INIT, name_counter(name), 0, 1, tuple(p.shape))[0]
            p.copy_(torch.from_numpy(limit * (2 * draw - 1)))
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS)
    padded = F.pad(pixels, (1, 1, 1, 1))
    shifted = torch.stack([padded[:, :, r : r + 8, c : c + 8] for r in range(3) for c in range(3)])
    for epoch in range(EPOCHS):
        order = permutation(SEED, epoch, len(labels))
        shift = integers(SEED, Stream.CROP, epoch, 0, len(labels), len(shifted))
        for index in np.array_split(order, len(labels) // BATCH):
            loss = F.cross_entropy(model(shifted[shift[index], index])[1], labels[index], label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def held_out_accuracy(model: DigitsCNN) -> float:
    _, (pixels, labels) = split()
    return (model(pixels)[1].argmax(1) == labels).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the digits' feature extractor and write its weights.")
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    torch.set_num_threads(1)
    model = train()
    accuracy = held_out_accuracy(model)
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), out, metadata={"held_out_accuracy": f"{accuracy:.4f}"})
    print(f"{out}: held-out accuracy {accuracy:.4f}, {out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
