"""Samples from elsewhere: a folder of PNG files or an .npz, measured as a run's are."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from diffussm.config import digest
from diffussm.data.pixels import Pixels
from diffussm.distributed.group import SINGLE_PROCESS, ProcessGroup
from diffussm.errors import UserError
from diffussm.metric_table import METRICS
from diffussm.metrics.features.registry import EXTRACTORS, extractor_facts
from diffussm.metrics.key import external_key
from diffussm.metrics.reference import cache
from diffussm.metrics.reference.facts import reference_facts
from diffussm.metrics.reference.file import ReferenceFile, is_file
from diffussm.metrics.requirements import missing_instrument, unsupported_metrics
from diffussm.metrics.shards import Arrays, Shards, ignore
from diffussm.metrics.suite import metric_suite
from diffussm.store import records

BATCH = 250


def default_extractor(reference: str) -> str:
    """The one that its statistics are of, the one that was made for the reference's data, or Inception."""
    if is_file(reference) and (stated := ReferenceFile(Path(reference)).stated.get("extractor")) in EXTRACTORS:
        return str(stated)
    return next((name for name, known in EXTRACTORS.items() if known.data == reference), "inception-v3-compat")


def default_metrics(extractor: str, reference: str) -> tuple[str, ...]:
    """Those of the table's defaults that the extractor and the reference can give."""
    unsupported = unsupported_metrics(extractor_facts(extractor), reference_facts(reference), sys.maxsize)
    return tuple(name for name, metric in METRICS.items() if metric.by_default and name not in unsupported)


def key_of(pixels: Pixels, reference: str, extractor: str, metrics: tuple[str, ...]) -> records.EvaluationKey:
    """How `pixels` are measured, with the defaults above; UserError for what does not fit."""
    extractor = extractor or default_extractor(reference)
    metrics = metrics or default_metrics(extractor, reference)
    channels, height, width = pixels.shape
    if height != width:
        raise UserError(f"samples: images of {height} by {width} pixels; needed are squares")
    return external_key(extractor, reference, metrics, pixels.count, (channels, height))


def evaluate_external(
    pixels: Pixels,
    reference: str,
    extractor: str = "",
    metrics: tuple[str, ...] = (),
    weights: str = "",
    device: torch.device | str = "cpu",
    processes: ProcessGroup = SINGLE_PROCESS,
    progress: Callable[[int], object] = ignore,
) -> records.Record | None:
    """The record of `pixels` against `reference`, in the first of the processes; None in the others.

    What they are measured with is the reference's own where it is not given. Features are kept as shards in the cache
    until the record is made, so that a kill costs a batch.
    """
    key = key_of(pixels, reference, extractor, metrics)
    if missing := missing_instrument(key.extractor, reference, key.metrics, weights):
        raise UserError(missing)
    by = metric_suite(key, reference, weights, str(device))
    content = processes.broadcast(pixels.sha256 if processes.is_rank_zero else None)
    if processes.is_rank_zero:
        by.load_reference()

    def make(start: int, count: int) -> Arrays:
        return by.extract(np.concatenate(list(pixels.batches(count, start, start + count))))

    name = digest({"samples": content, "key": key.digest, "batch": BATCH})
    with _folder(name, processes) as folder:
        shards = Shards(folder, pixels.count, BATCH, by.layers)
        found = shards.merged(make, lambda: by.measure(shards.whole, None), processes, progress)
        if found is None:
            return None
        shards.remove()
    return records.Record(
        run_id=f"outside-{content[:12]}",
        step=0,
        key=key,
        metrics=found,
        timing={},
        provenance={"samples_sha256": content},
    )


@contextmanager
def _folder(name: str, processes: ProcessGroup) -> Iterator[Path]:
    """For shards: in the cache, or, where that cannot be written to, one that is gone afterwards."""
    folder, lasts = cache.folder() / "shards" / name, True
    if processes.is_rank_zero:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lasts = os.access(folder, os.W_OK)
        except OSError:
            lasts = False
        folder = folder if lasts else Path(tempfile.mkdtemp(prefix="diffussm-"))
    try:
        yield Path(processes.broadcast(str(folder)))
    finally:
        if not lasts:
            shutil.rmtree(folder, ignore_errors=True)
