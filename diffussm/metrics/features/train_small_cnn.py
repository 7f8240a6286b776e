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
from safetensors.torch import save_file

from diffussm.data import photos
from diffussm.data.images import HeldImages, Images
from diffussm.data.load import reference_images
from diffussm.metrics.features.fit_small_cnn import BATCH, Labelled, correct, fit, shifted_rounds
from diffussm.metrics.features.registry import extractor_facts
from diffussm.metrics.features.small_cnn import SmallCNN
from diffussm.rng import permutation

EPOCHS = 32
SEED = 0
CLASSES = {"digits-cnn": 10, "digits16-cnn": 10, "mnist-cnn": 10, "photos-cnn": 8}
PHOTO_CROPS = 2048  # new ones for every epoch, each in four rotations


def network(name: str) -> SmallCNN:
    facts = extractor_facts(name)
    assert facts.image_size is not None
    return SmallCNN(facts.channels, facts.image_size, CLASSES[name])


def held_out(name: str) -> Labelled:
    """Return the test data of the network `name`."""
    if name == "photos-cnn":
        return _rotated(*photos.Crops(training=False).take(0, 0, 2048))
    pixels, labels = _digits(name, True)
    return torch.from_numpy(pixels), torch.from_numpy(labels)


def train(name: str) -> SmallCNN:
    """Return the network trained on its data; deterministic on one machine."""
    if name == "photos-cnn":
        return fit(network(name), _photo_epochs(), EPOCHS, SEED)
    images = HeldImages(_digits(name, False))
    epochs = shifted_rounds(images, EPOCHS, len(images.labels), reach=1, border="constant", seed=SEED)
    return fit(network(name), epochs, EPOCHS, SEED)


def accuracy(model: SmallCNN, data: Labelled) -> float:
    """Return the share of images that the model classifies correctly."""
    return correct(model, data) / len(data[1])


def _digits(name: str, held_out: bool) -> Images:
    images = reference_images(name.removesuffix("-cnn"))
    chosen = (np.arange(len(images.labels)) % 5 == 0) == held_out
    return Images(images.pixels[chosen], images.labels[chosen])


def _photo_epochs() -> Iterator[Iterator[Labelled]]:
    crops = photos.Crops(training=True)
    for epoch in range(EPOCHS):
        pixels, labels = _rotated(*crops.take(SEED, epoch, PHOTO_CROPS))
        order = torch.from_numpy(permutation(SEED, epoch, len(labels)))
        yield ((pixels[batch], labels[batch]) for batch in order.tensor_split(len(labels) // BATCH))


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
