"""Samples from elsewhere: a folder of PNG files or an .npz, measured as a run's are."""

from collections.abc import Callable

import numpy as np
import torch

from diffussm import records
from diffussm.config import digest
from diffussm.data.pixels import Pixels
from diffussm.metrics import cache
from diffussm.metrics.catalogue import EXTRACTORS, ExtractorFacts, extractor_facts, outside_key
from diffussm.metrics.shards import Arrays, Shards, ignore
from diffussm.metrics.yardstick import yardstick
from diffussm.processes import ALONE, Processes

BATCH = 250
UNASKED = ("label_accuracy", "clean_fid", "clean_fid_legacy")  # need labels, and weights of another kind


def default_extractor(reference: str) -> str:
    """The one that was made for the reference's data, or Inception."""
    return next((name for name, known in EXTRACTORS.items() if known.data == reference), "inception-v3-compat")


def default_metrics(extractor: ExtractorFacts) -> tuple[str, ...]:
    """All that the extractor gives of images alone."""
    spatial = ("sfid",) if extractor.spatial else ()
    score = ("inception_score",) if extractor.scores else ()
    return "fid", *spatial, *score, "kid", "precision", "recall"


def evaluate_outside(
    pixels: Pixels,
    reference: str,
    extractor: str = "",
    metrics: tuple[str, ...] = (),
    weights: str = "",
    device: torch.device | str = "cpu",
    processes: Processes = ALONE,
    progress: Callable[[int], object] = ignore,
) -> records.Record | None:
    """The record of `pixels` against `reference`, in the first of the processes; None in the others.

    What they are measured with is the reference's own where it is not given. Features are kept as shards in the cache
    until the record is made, so that a kill costs a batch.
    """
    extractor = extractor or default_extractor(reference)
    metrics = metrics or default_metrics(extractor_facts(extractor))
    channels, height, width = pixels.shape
    key = outside_key(extractor, reference, metrics, pixels.count, (channels, height if height == width else 0))
    by = yardstick(key, reference, weights, str(device))
    content = processes.from_first(pixels.sha256 if processes.is_first else None)
    folder = cache.folder() / "shards" / digest({"samples": content, "key": key.digest, "batch": BATCH})

    def make(start: int, count: int) -> Arrays:
        return by.extract(np.concatenate(list(pixels.batches(count, start, start + count))))

    shards = Shards(folder, pixels.count, BATCH)
    shards.make(make, processes, progress)
    if not processes.is_first:
        return None
    found = by.measure(shards.whole, None)
    shards.remove()
    return records.Record(
        run_id=f"outside-{content[:12]}",
        step=0,
        key=key,
        metrics=found,
        timing={},
        provenance={"samples_sha256": content},
    )
