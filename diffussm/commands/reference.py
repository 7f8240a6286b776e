"""`diffussm reference`: build, show and compare reference files in the format of ADM's evaluator."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffussm.config import is_extractor_file, is_npz_name
from diffussm.data.catalogue import CATALOGUE
from diffussm.data.load import reference_images
from diffussm.data.pixels import ArrayPixels, NpzPixels, Pixels, read_arrays, write_npz
from diffussm.data.prepared.manifest import MANIFEST
from diffussm.data.prepared.reader import PreparedImages
from diffussm.data.preparing.images import SourceImages
from diffussm.data.preparing.recipe import Options
from diffussm.data.sources.detect import open_source
from diffussm.data.transforms import CENTRE_CROP
from diffussm.distributed.group import select_device
from diffussm.errors import NotFinite, UserError, printable
from diffussm.metric_table import METRICS
from diffussm.metrics.external import default_extractor
from diffussm.metrics.features.extractor import Extractor
from diffussm.metrics.features.registry import check_shape, extractor_facts
from diffussm.metrics.reference.file import METADATA, STATISTICS, ReferenceFile
from diffussm.metrics.reference.gaussian import stated_gaussian
from diffussm.metrics.statistics.finite import finite
from diffussm.metrics.statistics.frechet import FrechetDistance, Moments
from diffussm.progress import Progress
from diffussm.rng import Stream, random_words

BATCH = 250
SHOWN = 200  # characters of what a file says of itself


def build(
    source: str,
    out: Path,
    image_size: int | None,
    extractor: str,
    images: int,
    extractor_weights: str,
    statistics: bool,
    transform: str = "",
) -> None:
    """Write `out`: `images` random images of the source, and statistics of all of them.

    `source` is an embedded or a prepared data set, an .npz of images, or what a data set can be prepared of, through
    `transform` (that of `data prepare` unless it is given) to `image_size`. The labels of the images are kept. What is
    taken of a source and what is left out of it is printed, and stored with the statistics.
    """
    if not is_npz_name(out.name):
        raise UserError(f"{out}: a reference is an .npz file; give a name that ends in .npz")
    if out.exists():
        raise UserError(f"{out}: already exists; remove it, or choose another name")
    if not images and not statistics:
        raise UserError(f"{out}: would hold neither images nor statistics; leave out --images 0 or --no-statistics")
    for option, value in (("--extractor", extractor), ("--extractor-weights", extractor_weights)):
        if value and not statistics:
            raise UserError(f"{option} {value}: not used with --no-statistics; leave one of them out")
    pixels, transform, labels = _source(source, image_size, transform)
    channels, height, width = pixels.shape
    if height != width:
        raise UserError(f"{source}: images are {height} x {width} pixels; they must be square")
    if statistics and pixels.count < 2:
        raise UserError(f"{source}: statistics need at least 2 images")
    metadata: dict[str, Any] = {
        "source": Path(source).name,
        "samples": pixels.count,
        "channels": channels,
        "image_size": height,
    }
    if transform:
        metadata["transform"] = transform
    skipped = ""
    if isinstance(pixels, SourceImages):
        skipped = ", ".join(f"{count} {reason}" for reason, count in pixels.skipped.items())
    if skipped:
        metadata["skipped"] = skipped
    if isinstance(pixels, PreparedImages):
        metadata["data_digest"] = pixels.sha256
    arrays: dict[str, NDArray[Any]] = {}
    if statistics:
        extractor = extractor or _default_extractor(source, pixels)
        network = _network(extractor, extractor_weights, (channels, height))
        metadata |= {"extractor": extractor, "extractor_sha256": network.facts.weights.sha256}
        if is_extractor_file(extractor):
            metadata |= {"extractor": network.facts.name, "extractor_file": Path(extractor).name}
        try:
            found = _moments(pixels, network)
        except NotFinite as error:
            raise UserError(f"{source}: {error}") from None
        for layer, moments in found.items():
            arrays |= dict(zip(STATISTICS[layer], moments.statistics, strict=True))
    chosen = np.sort(np.argsort(random_words(0, Stream.REFERENCE, 0, 0, 1, pixels.count)[0], kind="stable")[:images])
    if labels is not None and len(chosen):
        arrays["arr_1"] = labels[chosen]
    arrays[METADATA] = np.frombuffer(json.dumps(metadata).encode(), dtype=np.uint8)
    write_npz(out, pixels.shape, len(chosen), _selected(pixels, chosen), **arrays)
    taken = f"{pixels.count:,} image{'s' * (pixels.count != 1)} taken"
    if isinstance(pixels, SourceImages):
        taken += f"; left out: {skipped or 'nothing'}"
    print(f"{source}: {taken}; stored: {len(chosen):,}", file=sys.stderr)


class _Source(NamedTuple):
    pixels: Pixels
    transform: str  # "" if it is unknown
    labels: NDArray[np.int64] | None  # None if it has none


def _source(source: str, image_size: int | None, transform: str) -> _Source:
    """Return the images, their transform and their labels."""
    path = Path(source)
    is_prepared = (path / MANIFEST).exists()
    if path.exists() and not is_prepared and not is_npz_name(source):
        is_sized = open_source(path, labelled=False).shape is not None
        transform = transform or (CENTRE_CROP if image_size is not None and is_sized else "")
        images = SourceImages(path, Options(image_size=image_size, transform=transform))
        return _Source(images, images.transform, _labels([e.label or 0 for e in images.entries], len(images.classes)))
    if image_size is not None or transform:
        option = "--transform" if image_size is None else "--image-size"
        raise UserError(f"{option}: applies to images that are cropped to a size; these have theirs")
    if is_prepared:
        prepared = PreparedImages(path)
        manifest = prepared.manifest
        return _Source(prepared, manifest.transform, _labels(prepared.labels, len(manifest.classes)))
    if is_npz_name(source):
        pixels = NpzPixels(path)
        labels = read_arrays(path, ["arr_1"]).get("arr_1")
        is_known = labels is not None and labels.dtype.kind in "iu" and labels.shape == (pixels.count,)
        transform = ReferenceFile(path).metadata.get("transform", "")
        return _Source(pixels, transform, labels.astype(np.int64) if labels is not None and is_known else None)
    if source not in CATALOGUE:
        raise UserError(f"{source}: neither images, nor one of the embedded data sets {', '.join(sorted(CATALOGUE))}")
    embedded = reference_images(source)
    return _Source(ArrayPixels(embedded.pixels), "none", _labels(embedded.labels, CATALOGUE[source].classes))


def _labels(labels: ArrayLike, classes: int) -> NDArray[np.int64] | None:
    """Return the labels; None without classes."""
    return np.asarray(labels, dtype=np.int64) if classes else None


def _default_extractor(source: str, pixels: Pixels) -> str:
    """Return the extractor of a source for which none is given; raise UserError if there is none for its images."""
    if isinstance(pixels, PreparedImages | SourceImages) and pixels.shape[0] != 3:
        raise UserError(
            f"{source}: give --extractor: Inception is for images of 3 channels, these have {pixels.shape[0]}; "
            "`diffussm extractor train` makes one for a prepared data set with classes"
        )
    return default_extractor(source)


def _network(extractor: str, extractor_weights: str, shape: tuple[int, int]) -> Extractor:
    facts = extractor_facts(extractor)
    check_shape(f"--extractor {extractor}", facts, shape)
    if extractor_weights and facts.weights.shipped:
        raise UserError(f"--extractor-weights {extractor_weights}: {extractor} comes with its weights; leave it out")
    return Extractor(
        extractor, ["features", *(["spatial"] if facts.spatial else [])], extractor_weights, select_device()
    )


def _moments(pixels: Pixels, extractor: Extractor) -> dict[str, Moments]:
    """Return the moments of each layer over all images, in one pass."""
    progress, done = Progress("images", pixels.count), 0
    moments: dict[str, Moments] = {}
    for batch in pixels.batches(BATCH):
        for layer, features in extractor(batch).items():
            part = Moments.of(finite(features, f"its {layer}", "image", done))
            moments[layer] = moments[layer] + part if layer in moments else part
        done += len(batch)
        progress(done)
    return moments


def _selected(pixels: Pixels, chosen: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    """Yield the chosen images in order, in batches."""
    if not len(chosen):
        return
    if isinstance(pixels, SourceImages):
        yield from pixels.subset(chosen).batches(BATCH)
        return
    if isinstance(pixels, PreparedImages):
        yield from (pixels.take(chosen[start : start + BATCH]).pixels for start in range(0, len(chosen), BATCH))
        return
    start = 0
    for batch in pixels.batches(BATCH):
        yield batch[chosen[(chosen >= start) & (chosen < start + len(batch))] - start]
        start += len(batch)


def show(path: Path) -> str:
    """Return a description of a reference file: its arrays and its origin; raise UserError if it is not a reference
    file."""
    file = ReferenceFile(path)
    if missing := file.problem():
        raise UserError(f"{path}: {missing}")
    lines = [f"{path}, sha256 {file.sha256}"]
    arrays = {name: header for name, header in file.headers.items() if name != METADATA}
    lines += [f"  {_shown(name):10s} {header.dtype} {header.shape}" for name, header in arrays.items()]
    for layer in file.layers:
        stated_gaussian(path, layer)
    lines += [f"Frechet distances use its {file.kind}; precision, recall and KID use its {file.images:,} images."]
    metadata = file.metadata
    lines += [f"  {_shown(name)}: {_shown(value)}" for name, value in metadata.items()]
    lines += [] if metadata else ["Its origin is not recorded."]
    return "\n".join(lines)


def _shown(value: object) -> str:
    """Return what a file says of itself in one line, escaped and cut."""
    text = printable(str(value))
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text):,} characters)"


def _relative_difference(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return the largest difference relative to the largest value of the first; to one if all of those are zero."""
    return float(np.abs(first - second).max() / (np.abs(first).max() or 1))


def compare(a: Path, b: Path) -> str:
    """Return a description of how two files differ in their statistics and in what they record of their origin."""
    files = ReferenceFile(a), ReferenceFile(b)
    for file in files:
        if missing := file.problem():
            raise UserError(f"{file.path}: {missing}")
    lines = []
    for layer, names in STATISTICS.items():
        if all(names[0] in file.headers for file in files):
            first, second = (stated_gaussian(file.path, layer) for file in files)
            if first.mean.shape != second.mean.shape:
                sizes = f"{first.mean.shape[0]} and {second.mean.shape[0]}"
                raise UserError(f"{a}, {b}: {names[0]} has {sizes} features, so they cannot be compared")
            mean = _relative_difference(first.mean, second.mean)
            covariance = _relative_difference(first.covariance, second.covariance)
            to_second = FrechetDistance(second)
            distance = METRICS["fid"].possible(to_second(first), to_second.rounding(first))
            lines += [
                f"{layer}: Frechet distance {distance:.6g}; relative to the largest value, the means differ by at most "
                f"{mean:.3g} and the covariances by at most {covariance:.3g}"
            ]
    if not lines:
        raise UserError(f"{a}, {b}: no statistics in common; `diffussm reference build` computes them from images")
    facts = [file.metadata | {"images": file.images} for file in files]
    for name in sorted(facts[0].keys() | facts[1].keys()):
        values = [file_facts.get(name, "unknown") for file_facts in facts]
        if values[0] != values[1]:
            lines.append(f"{_shown(name)}: {_shown(values[0])} and {_shown(values[1])}")
    conclusion = (
        "the files have the same content"
        if files[0].sha256 == files[1].sha256
        else "the files differ: records measured against one and the other never share a column"
    )
    return "\n".join([*lines, conclusion])
