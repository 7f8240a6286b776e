"""The training of an extractor of one's own: a small CNN that classifies a labelled prepared data set."""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from diffussm.data.images import Images
from diffussm.data.prepared.manifest import Manifest
from diffussm.data.prepared.reader import PreparedImages
from diffussm.errors import UserError
from diffussm.host.provenance import versions
from diffussm.metrics.features.fit_small_cnn import BATCH, Labelled, correct, fit, shifted_rounds
from diffussm.metrics.features.own_file import FIELD, KIND, OwnExtractor, Recipe
from diffussm.metrics.features.small_cnn import FEATURES, SPATIAL, SmallCNN
from diffussm.models.stored import write_weights
from diffussm.rng import Stream, random_words
from diffussm.store.integrity.stamp import Stamp
from diffussm.store.records import OWN_CNN

LEAST_SIDE = 8
ROUND = 8192  # images of a round, at most
EPOCHS = 32  # by default, but at least LEAST_IMAGES / n of them, and at most MOST_IMAGES / n
LEAST_IMAGES, MOST_IMAGES = 1 << 15, 1 << 17
HELD_OUT, MOST_HELD_OUT = 0.2, 10_000


def check_trainable(folder: Path, manifest: Manifest) -> None:
    """Raise UserError for a data set on which no extractor can be trained."""
    if len(manifest.classes) < 2:
        found = f"has {'one class' if manifest.classes else 'no labels'}"
        instead = " its samples can be measured with inception-v3-compat" if manifest.channels == 3 else ""
        raise UserError(
            f"{folder}: {found}, but an extractor learns to tell classes apart;{instead or ' give it labels'}"
        )
    if manifest.image_size < LEAST_SIDE:
        side = manifest.image_size
        raise UserError(f"{folder}: images are {side} x {side}; an extractor needs {LEAST_SIDE} x {LEAST_SIDE} or more")


def train(
    images: PreparedImages, name: str, epochs: float, seed: int, report: Callable[[int, int], object]
) -> tuple[SmallCNN, OwnExtractor]:
    """Return the trained network and what its file says about it; deterministic on one machine.

    `epochs` is the number of passes over the training images, 0 for the default. `report` is called with the number of
    images seen so far, and of all that will be seen. Raises UserError as `check_trainable`, and if no image can be held
    out.
    """
    manifest = images.manifest
    check_trainable(images.folder, manifest)
    is_held_out = held_out(images.labels, seed)
    if not is_held_out.any():
        raise UserError(f"{images.folder}: no class has two images, one to learn from and one to test with")
    training, testing = _Part(images, ~is_held_out), _Part(images, is_held_out)
    count, shift = len(training.labels), max(1, manifest.image_size // 16)
    size = min(count, ROUND)
    rounds = max(1, round((epochs or default_epochs(count)) * count / size))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the number of threads affects the last bits
    try:
        model = SmallCNN(manifest.channels, manifest.image_size, len(manifest.classes))
        batches = shifted_rounds(training, rounds, size, shift, "edge", seed)
        fit(model, _reported(batches, lambda seen: report(seen, rounds * size)), rounds, seed)
        right = sum(correct(model, batch) for batch in testing.batches())
        spatial = model.maps(torch.zeros(1, *images.shape)).shape[-1] ** 2 * SPATIAL
    finally:
        torch.set_num_threads(threads)
    return model, OwnExtractor(
        name=(re.sub(r"[^\w.-]+", "_", name) or "unnamed") + OWN_CNN,
        channels=manifest.channels,
        image_size=manifest.image_size,
        classes=manifest.classes,
        layers={"features": FEATURES, "spatial": spatial, "logits": len(manifest.classes)},
        held_out_images=len(testing.labels),
        held_out_accuracy=right / len(testing.labels),
        recipe=Recipe(
            data_digest=manifest.digest,
            transform=manifest.transform,
            images=count,
            epochs=rounds * size / count,
            batch=BATCH,
            shift=shift,
            seed=seed,
            versions=versions(),
        ),
    )


def write(path: Path, model: SmallCNN, own: OwnExtractor) -> None:
    """Write the weights with what their file says about them."""
    stamp = Stamp(run_id="", step=None, kind=KIND)
    write_weights(path, model.state_dict(), stamp, {FIELD: own.model_dump_json()})


def default_epochs(count: int) -> float:
    """Return the passes over `count` images: 32, more over few and fewer over many."""
    return min(max(EPOCHS, LEAST_IMAGES / count), MOST_IMAGES / count)


def held_out(labels: NDArray[np.int64], seed: int) -> NDArray[np.bool_]:
    """Return which images are held out: of each class a fifth, chosen at random, so that at least one is left; less of
    large sets."""
    share = min(HELD_OUT, MOST_HELD_OUT / len(labels))
    order = np.lexsort([random_words(seed, Stream.HELD_OUT, 0, 0, len(labels), 1)[:, 0], labels])
    counts = np.bincount(labels)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = np.zeros(len(labels), dtype=np.bool_)
    wanted = np.minimum(np.ceil(counts * share).astype(np.int64), counts - 1)
    chosen[order] = rank < np.repeat(wanted, counts)
    return chosen


class _Part:
    """The chosen images of a set, by index among them."""

    def __init__(self, images: PreparedImages, chosen: NDArray[np.bool_]):
        self._images, self._indices = images, np.flatnonzero(chosen)
        self.labels: NDArray[np.int64] = images.labels[self._indices]

    def take(self, indices: NDArray[np.int64]) -> Images:
        return self._images.take(self._indices[indices])

    def batches(self) -> Iterator[Labelled]:
        for part in np.array_split(np.arange(len(self.labels)), -(-len(self.labels) // BATCH)):
            pixels, labels = self.take(part)
            yield torch.from_numpy(pixels), torch.from_numpy(labels)


def _reported(rounds: Iterable[Iterable[Labelled]], report: Callable[[int], object]) -> Iterator[Iterator[Labelled]]:
    """Yield the rounds, reporting how many images have been seen before each batch."""
    seen = 0

    def counted(batches: Iterable[Labelled]) -> Iterator[Labelled]:
        nonlocal seen
        for pixels, labels in batches:
            report(seen)
            yield pixels, labels
            seen += len(labels)

    for batches in rounds:
        yield counted(batches)
    report(seen)
