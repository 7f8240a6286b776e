"""The nearest images of a finite training set, by a network's features or by pixels.

The training set is read in batches, of which one is in memory: a million images of 64 x 64 take no more than a few.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from diffussm.config import Config, EvaluationConfig
from diffussm.data.images import IndexedImages
from diffussm.data.load import training_images
from diffussm.data.lookup.facts import find_required
from diffussm.data.prepared.latents import Decode
from diffussm.errors import NotFinite, UserError
from diffussm.metrics.decoding.decoder import make_decoder
from diffussm.metrics.decoding.pixels import to_pixels
from diffussm.metrics.features.extractor import Extractor
from diffussm.metrics.features.registry import ExtractorFacts, extractor_facts
from diffussm.metrics.pictures.sheet import Nearest
from diffussm.metrics.reference import cache

BATCH_VALUES = 1 << 23  # of a batch's pixels
AT_MILESTONES = 20_000  # images of the largest training set that is searched at each milestone
BY_INCEPTION = 10_000  # images of the largest one that a large network on a CPU is run on

Batch = tuple[NDArray[np.int64], NDArray[np.float64]]  # indices i, or -1 - i of mirrored images; features (n, d)


Report = Callable[[int, int], object]  # called with the number of images compared, and of all


def _no_report(*_: int) -> None:
    """Show nothing."""


class Space(NamedTuple):
    """Where distances are measured."""

    name: str
    features: Callable[[NDArray[np.uint8]], NDArray[np.float64]]


def nearest_images(
    samples: NDArray[np.uint8],
    config: Config,
    device: torch.device | str = "cpu",
    report: Report = _no_report,
) -> Nearest:
    """Return the nearest training images of samples (N, C, H, W), mirrored ones too if they are trained on.

    Distances are those of the evaluation's extractor, if its weights are there and it is small, there is a GPU or the
    set is; otherwise of pixels. Latents are decoded. Raises UserError if the training set is not there or not finite.
    """
    images = training_images(config.data, _decode(config, device) if config.data.decoded_size else None)
    if images is None:
        raise UserError(f"data.name = {config.data.name}: is no finite set of images, so none is the nearest")
    space = _space(config.evaluation, len(images.labels), device) or PIXELS
    found = closest(space.features(samples), _batches(images, space, config.data.flip, report))
    return Nearest(_taken(images, found), space.name)


def nearest_at_milestone(
    samples: NDArray[np.uint8], config: Config, extractor: Extractor, device: torch.device | str
) -> Nearest | None:
    """Return the same where that is cheap, None elsewhere: if there are no more than `AT_MILESTONES` images, no latents
    among them, and the extractor, which must have a layer of features, is a small one; the features of the training
    set are cached."""
    if "features" not in extractor.layers or extractor.facts.image_size is None:
        return None
    try:
        images = training_images(config.data)
        if images is None or len(images.labels) > AT_MILESTONES:
            return None
        space = _space_of(extractor)
        key = {
            "training": find_required(config.data).sha256,
            "mirrored": config.data.flip,
            "weights": extractor.facts.weights.sha256,
            "network": extractor.facts.network,
            "device": torch.device(device).type,
            "torch": torch.__version__,
        }
        cached = cache.cached_arrays(key, lambda: _whole(_batches(images, space, config.data.flip)))
        found = closest(space.features(samples), [(cached["indices"], cached["features"])])
        return Nearest(_taken(images, found), space.name)
    except UserError:  # the data are not there: the record does not need them
        return None


def closest(targets: NDArray[np.float64], batches: Iterable[Batch]) -> NDArray[np.int64]:
    """Return the index of the nearest row of all batches for each target (N, d), the first of equally near ones."""
    least = np.full(len(targets), np.inf)
    found = np.zeros(len(targets), dtype=np.int64)
    for indices, features in batches:
        distances = (
            np.einsum("ij,ij->i", features, features)[None] - 2 * targets @ features.T
        )  # less that of the target
        nearest = distances.argmin(1)
        values = distances[np.arange(len(targets)), nearest]
        found = np.where(values < least, indices[nearest], found)
        least = np.minimum(values, least)
    return found


def _decode(config: Config, device: torch.device | str) -> Decode:
    decode = make_decoder(config, device).decode

    def pixels(latents: NDArray[np.float32]) -> NDArray[np.uint8]:
        try:
            return to_pixels(decode(torch.from_numpy(latents).to(device)))
        except NotFinite:
            raise UserError(
                f"data.name = {config.data.name}: has latents that are not decoded to finite images"
            ) from None

    return pixels


PIXELS = Space("pixels", lambda pixels: pixels.reshape(len(pixels), -1).astype(np.float64))


def _space_of(extractor: Extractor) -> Space:
    name = extractor.facts.name
    return Space(f"features of {name}", lambda pixels: extractor(pixels)["features"].astype(np.float64))


def _space(evaluation: EvaluationConfig, images: int, device: torch.device | str) -> Space | None:
    """Return the space of the evaluation's extractor; None if it is not at hand."""
    facts = extractor_facts(evaluation.extractor)
    if facts.weights.missing_requirement(evaluation.extractor_weights) or not _is_quick(facts, images, device):
        return None
    return _space_of(Extractor(evaluation.extractor, ["features"], evaluation.extractor_weights, device))


def _is_quick(facts: ExtractorFacts, images: int, device: torch.device | str) -> bool:
    return facts.image_size is not None or images <= BY_INCEPTION or torch.device(device).type == "cuda"


def _batches(images: IndexedImages, space: Space, mirrored: bool, report: Report = _no_report) -> Iterator[Batch]:
    count, start = len(images.labels), 0
    size = max(1, BATCH_VALUES // images.take(np.arange(1)).pixels.size)
    while start < count:
        report(start, count)
        indices = np.arange(start, min(start + min(size, 500), count))
        pixels = images.take(indices).pixels
        yield indices, space.features(pixels)
        if mirrored:
            yield -1 - indices, space.features(np.ascontiguousarray(pixels[..., ::-1]))
        start += len(indices)
    report(count, count)


def _whole(batches: Iterable[Batch]) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]:
    indices, features = zip(*batches, strict=True)
    return {"indices": np.concatenate(indices), "features": np.concatenate(features)}


def _taken(images: IndexedImages, found: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the images of these indices, mirrored where they are negative."""
    pixels = images.take(np.where(found < 0, -1 - found, found)).pixels
    return np.where((found < 0)[:, None, None, None], pixels[..., ::-1], pixels)
