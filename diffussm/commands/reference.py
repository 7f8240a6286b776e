"""`diffussm reference`: build, show and compare reference files in the format of ADM's evaluator."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffussm.data.catalogue import CATALOGUE
from diffussm.data.folder import CentreCropped
from diffussm.data.load import reference_images
from diffussm.data.pixels import ArrayPixels, NpzPixels, Pixels, read_arrays, write_npz
from diffussm.distributed.group import device_here
from diffussm.errors import UserError
from diffussm.metrics.external import default_extractor
from diffussm.metrics.features.extractor import Extractor
from diffussm.metrics.features.registry import extractor_facts, refuse_shape
from diffussm.metrics.reference.file import STATED, STATISTICS, ReferenceFile, is_file
from diffussm.metrics.statistics.frechet import Moments, Statistics, frechet_distance
from diffussm.progress import Progress
from diffussm.rng import Stream, words

BATCH = 250


def build(
    source: str, out: Path, image_size: int | None, extractor: str, images: int, weights: str, statistics: bool
) -> None:
    """Write `out`: `images` of the source's images, chosen at random, and statistics of all of them.

    `source` is an embedded data set, a folder of photographs, which are cropped to `image_size` as for training, or an
    .npz of images.
    """
    if not is_file(out.name):
        raise UserError(f"{out}: a reference is an .npz file")
    if out.exists():
        raise UserError(f"{out}: is there already")
    if not images and not statistics:
        raise UserError(f"{out}: would hold neither images nor statistics")
    pixels, transform = _source(source, image_size)
    channels, height, width = pixels.shape
    if height != width:
        raise UserError(f"{source}: images of {height} by {width} pixels; needed are squares")
    if statistics and pixels.count < 2:
        raise UserError(f"{source}: statistics need more than one image")
    stated: dict[str, Any] = {
        "source": Path(source).name,
        "samples": pixels.count,
        "channels": channels,
        "image_size": height,
    }
    if transform:
        stated["transform"] = transform
    arrays: dict[str, NDArray[Any]] = {}
    if statistics:
        extractor = extractor or default_extractor(source)
        network = _network(extractor, weights, (channels, height))
        stated |= {"extractor": extractor, "extractor_sha256": network.facts.weights.sha256}
        for layer, found in _moments(pixels, network).items():
            arrays |= dict(zip(STATISTICS[layer], found.statistics, strict=True))
    chosen = np.sort(np.argsort(words(0, Stream.REFERENCE, 0, 0, 1, pixels.count)[0], kind="stable")[:images])
    arrays[STATED] = np.frombuffer(json.dumps(stated).encode(), dtype=np.uint8)
    write_npz(out, pixels.shape, len(chosen), _only(pixels, chosen), **arrays)


def _source(source: str, image_size: int | None) -> tuple[Pixels, str]:
    """Images and the transform they went through, empty where it is not known."""
    if Path(source).is_dir():
        if image_size is None:
            raise UserError(f"{source}: say to how many pixels a side its images are cropped: --image-size")
        cropped = CentreCropped(Path(source), image_size)
        return cropped, cropped.transform
    if image_size is not None:
        raise UserError("--image-size: only of a folder, whose images are cropped to it")
    if is_file(source):
        return NpzPixels(Path(source)), ReferenceFile(Path(source)).stated.get("transform", "")
    if source not in CATALOGUE:
        raise UserError(f"{source}: is neither a folder, nor an .npz, nor one of {', '.join(sorted(CATALOGUE))}")
    return ArrayPixels(reference_images(source).pixels), "none"


def _network(extractor: str, weights: str, shape: tuple[int, int]) -> Extractor:
    facts = extractor_facts(extractor)
    refuse_shape(f"--extractor {extractor}", facts, shape)
    return Extractor(extractor, ["features", *(["spatial"] if facts.spatial else [])], weights, device_here())


def _moments(pixels: Pixels, extractor: Extractor) -> dict[str, Moments]:
    """Of each layer, over all images, in one pass."""
    progress, done = Progress("images", pixels.count), 0
    found: dict[str, Moments] = {}
    for batch in pixels.batches(BATCH):
        for layer, features in extractor(batch).items():
            part = Moments.of(features)
            found[layer] = found[layer] + part if layer in found else part
        done += len(batch)
        progress(done)
    return found


def _only(pixels: Pixels, chosen: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    """Those images, in order."""
    if not len(chosen):
        return
    if isinstance(pixels, CentreCropped):
        yield from pixels.chosen(chosen).batches(BATCH)
        return
    start = 0
    for batch in pixels.batches(BATCH):
        yield batch[chosen[(chosen >= start) & (chosen < start + len(batch))] - start]
        start += len(batch)


def show(path: Path) -> str:
    """What the file holds and says of itself; UserError if it is none."""
    file = ReferenceFile(path)
    if missing := file.missing_requirement():
        raise UserError(f"{path}: {missing}")
    lines = [f"{path}, sha256 {file.sha256}"]
    lines += [f"  {name:10s} {header.dtype} {header.shape}" for name, header in file.headers.items() if name != STATED]
    lines += [f"Frechet distances are to its {file.kind}; precision, recall and KID to its {file.images:,} images."]
    stated = file.stated
    lines += [f"  {name}: {value}" for name, value in stated.items()] if stated else ["It says nothing of its origin."]
    return "\n".join(lines)


def compare(a: Path, b: Path) -> str:
    """How far apart the statistics of two files are, and what they say that differs."""
    files = ReferenceFile(a), ReferenceFile(b)
    for file in files:
        if missing := file.missing_requirement():
            raise UserError(f"{file.path}: {missing}")
    lines = []
    for layer, names in STATISTICS.items():
        if all(names[0] in file.headers for file in files):
            first, second = (_statistics(file, names) for file in files)
            if first.mean.shape != second.mean.shape:
                raise UserError(f"{a}, {b}: {names[0]} of {first.mean.shape[0]} and {second.mean.shape[0]} features")
            mean = np.abs(first.mean - second.mean).max() / np.abs(first.mean).max()
            covariance = np.abs(first.covariance - second.covariance).max() / np.abs(first.covariance).max()
            distance = frechet_distance(first, second)
            lines += [
                f"{layer}: Frechet distance {distance:.6g}; largest difference of the means {mean:.3g} and of the "
                f"covariances {covariance:.3g} of the largest value"
            ]
    if not lines:
        raise UserError(f"{a}, {b}: have no statistics in common; `diffussm reference build` makes them of images")
    said = [file.stated | {"images": file.images} for file in files]
    for name in sorted(said[0].keys() | said[1].keys()):
        first_says, second_says = (one.get(name, "unknown") for one in said)
        if first_says != second_says:
            lines.append(f"{name}: {first_says} and {second_says}")
    same = (
        "the same file content"
        if files[0].sha256 == files[1].sha256
        else "other files: records of the one and of the other never share a column"
    )
    return "\n".join([*lines, same])


def _statistics(file: ReferenceFile, names: tuple[str, str]) -> Statistics:
    arrays = read_arrays(file.path, names)
    return Statistics(*(np.asarray(arrays[name], dtype=np.float64) for name in names))
