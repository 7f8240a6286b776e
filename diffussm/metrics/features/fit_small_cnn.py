"""The training of a SmallCNN as a classifier: by AdamW, with a cosine schedule over rounds."""

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from diffussm.data.images import Images, IndexedImages, Shuffled
from diffussm.metrics.features.small_cnn import SmallCNN
from diffussm.rng import Stream, integers, name_hash, uniform

BATCH = 64

Labelled = tuple[Tensor, Tensor]  # pixels (N, C, S, S) uint8, labels (N,)


def fit(model: SmallCNN, rounds: Iterable[Iterable[Labelled]], count: int, seed: int) -> SmallCNN:
    """Return the model trained on the batches of each of `count` rounds; deterministic on one machine."""
    with torch.no_grad():
        for parameter_name, p in model.named_parameters():
            fan_in = p[0].numel() if p.dim() > 1 else 0
            limit = (3 / fan_in) ** 0.5 if fan_in else 0.0
            draw = uniform(seed, Stream.INIT, name_hash(parameter_name), 0, 1, tuple(p.shape))[0]
            p.copy_(torch.from_numpy(limit * (2 * draw - 1)))
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, count)
    for batches in rounds:
        for pixels, labels in batches:
            loss = F.cross_entropy(model(pixels)[1], labels, label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()
    return model.eval()


def shifted_rounds(
    images: IndexedImages, count: int, size: int, reach: int, border: Literal["constant", "edge"], seed: int
) -> Iterator[Iterator[Labelled]]:
    """Yield `count` rounds of batches, of `size` images together: shuffled epoch by epoch, each image shifted by at
    most `reach` pixels.

    What a shift uncovers is black (constant), or repeats the image's edge.
    """
    order, side = Shuffled(images), 2 * reach + 1
    for number in range(count):
        chosen = order.chosen(seed, number * size, size)
        shifts = integers(seed, Stream.CROP, number, 0, len(images.labels), side**2)
        parts = np.array_split(chosen, max(1, size // BATCH))
        yield (_shifted(images.take(part), shifts[part], reach, border) for part in parts)


def _shifted(images: Images, shifts: NDArray[np.int64], reach: int, border: Literal["constant", "edge"]) -> Labelled:
    pixels = images.pixels
    rows, columns = pixels.shape[2:]
    padded = np.pad(pixels, ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode=border)
    shifted = np.empty_like(pixels)
    for i, (down, right) in enumerate(zip(*divmod(shifts, 2 * reach + 1), strict=True)):
        shifted[i] = padded[i, :, down : down + rows, right : right + columns]
    return torch.from_numpy(shifted), torch.from_numpy(images.labels)


@torch.no_grad()
def correct(model: SmallCNN, data: Labelled) -> int:
    """Return the number of images that the model classifies correctly."""
    pixels, labels = data
    return int((model(pixels)[1].argmax(1) == labels).sum())
