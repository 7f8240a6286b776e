"""The training of the shipped extractors: the command that made their weights.

    python -m diffussm.metrics.features.train_small_cnn digits-cnn --out diffussm/metrics/weights/digits_cnn.safetensors

digits-cnn, digits16-cnn, mnist-cnn: classify the ten digits; trained on four of five images in data order (index % 5
!= 0), with shifts of at most one pixel, and tested on the fifth.
photos-cnn: classifies the photograph and its rotation by quarter turns (8 classes); trained on random crops of the
training bands, tested on 2,048 crops of the reference bands in all four rotations. Much of both photographs is sky or
blurred leaves, which look the same in every rotation: this limits the accuracy, whatever the network.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from diffussm.data import photos
from diffussm.data.load import reference_images
from diffussm.metrics.features.registry import extractor_facts
from diffussm.metrics.features.small_cnn import SmallCNN
from diffussm.rng import Stream, integers, name_hash, permutation, uniform

EPOCHS = 32
BATCH = 64
SEED = 0
CLASSES = {"digits-cnn": 10, "digits16-cnn": 10, "mnist-cnn": 10, "photos-cnn": 8}
PHOTO_CROPS = 2048  # new ones for every epoch, each in four rotations

Labelled = tuple[Tensor, Tensor]  # pixels (N, C, S, S) uint8, labels (N,)


def network(name: str) -> SmallCNN:
    facts = extractor_facts(name)
    assert facts.image_size is not None
    return SmallCNN(facts.channels, facts.image_size, CLASSES[name])


def held_out(name: str) -> Labelled:
    """Return the test data of the network `name`."""
    return _rotated(*photos.Crops(training=False).take(0, 0, 2048)) if name == "photos-cnn" else _digits(name, True)


def train(name: str) -> SmallCNN:
    """Return the network trained by AdamW with a cosine schedule; deterministic on one machine."""
    model = network(name)
    with torch.no_grad():
        for parameter_name, p in model.named_parameters():
            fan_in = p[0].numel() if p.dim() > 1 else 0
            limit = (3 / fan_in) ** 0.5 if fan_in else 0.0
            draw = uniform(SEED, Stream.INIT, name_hash(parameter_name), 0, 1, tuple(p.shape))[0]
            p.copy_(torch.from_numpy(limit * (2 * draw - 1)))
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS)
    for pixels, labels in _photo_epochs() if name == "photos-cnn" else _digit_epochs(name):
        for batch in torch.arange(len(labels)).tensor_split(len(labels) // BATCH):
            loss = F.cross_entropy(model(pixels[batch])[1], labels[batch], label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: SmallCNN, data: Labelled) -> float:
    """Return the share of images that the model classifies correctly."""
    pixels, labels = data
    return (model(pixels)[1].argmax(1) == labels).float().mean().item()


def _digits(name: str, held_out: bool) -> Labelled:
    images = reference_images(name.removesuffix("-cnn"))
    chosen = (np.arange(len(images.labels)) % 5 == 0) == held_out
    return torch.from_numpy(images.pixels[chosen]), torch.from_numpy(images.labels[chosen])


def _digit_epochs(name: str) -> Iterator[Labelled]:
    """Yield all training images for each epoch, in a new order and with new shifts."""
    pixels, labels = _digits(name, False)
    side = pixels.shape[-1]
    padded = F.pad(pixels, (1, 1, 1, 1))
    shifted = torch.stack([padded[:, :, r : r + side, c : c + side] for r in range(3) for c in range(3)])
    for epoch in range(EPOCHS):
        order = torch.from_numpy(permutation(SEED, epoch, len(labels)))
        shift = torch.from_numpy(integers(SEED, Stream.CROP, epoch, 0, len(labels), len(shifted)))
        yield shifted[shift[order], order], labels[order]


def _photo_epochs() -> Iterator[Labelled]:
    crops = photos.Crops(training=True)
    for epoch in range(EPOCHS):
        pixels, labels = _rotated(*crops.take(SEED, epoch, PHOTO_CROPS))
        order = torch.from_numpy(permutation(SEED, epoch, len(labels)))
        yield pixels[order], labels[order]


def _rotated(crops: np.ndarray, photographs: np.ndarray) -> Labelled:
    """Return every crop in four rotations, with the label 4 x photograph + quarter turns."""
    turns = [torch.from_numpy(np.ascontiguousarray(np.rot90(crops, turn, (2, 3)))) for turn in range(4)]
    labels = [torch.from_numpy(4 * photographs + turn) for turn in range(4)]
    return torch.cat(turns), torch.cat(labels)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train one of the shipped feature extractors and write its weights.")
    parser.add_argument("name", choices=sorted(CLASSES))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = train(options.name)
    found = accuracy(model, held_out(options.name))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), options.out, metadata={"held_out_accuracy": f"{found:.4f}"})
    print(f"{options.out}: held-out accuracy {found:.4f}, {options.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
