"""External samples, in a folder of PNG files or an .npz, measured as those of a run."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from diffussm.config import EvaluationConfig, digest, is_extractor_file, is_npz_name
from diffussm.data.pixels import Pixels
from diffussm.distributed.group import ProcessGroup
from diffussm.errors import UserError
from diffussm.host.clock import utc
from diffussm.host.provenance import CREATED
from diffussm.metric_table import BY_DEFAULT
from diffussm.metrics.context import SINGLE_PROCESS_CONTEXT, EvaluationContext
from diffussm.metrics.features.registry import EXTRACTORS, extractor_facts
from diffussm.metrics.key import external_key
from diffussm.metrics.reference import cache
from diffussm.metrics.reference.facts import reference_facts
from diffussm.metrics.reference.file import ReferenceFile
from diffussm.metrics.requirements import check_requirements, unsupported_metrics
from diffussm.metrics.shards import Shards, retry_if_shards_removed
from diffussm.metrics.suite import metric_suite
from diffussm.store import records
from diffussm.store.hashes import file_sha256


def default_extractor(reference: str) -> str:
    """Return the extractor of the reference's statistics, if it is the package's or its file lies beside the reference,
    else the one for the reference's data, else Inception."""
    metadata = ReferenceFile(Path(reference)).metadata if is_npz_name(reference) else {}
    if (recorded := metadata.get("extractor")) in EXTRACTORS:
        return str(recorded)
    file = Path(reference).with_name(Path(str(metadata.get("extractor_file", ""))).name or "none")
    if is_extractor_file(file.name) and file.is_file() and file_sha256(file) == metadata.get("extractor_sha256"):
        return str(file)
    return next((name for name, known in EXTRACTORS.items() if known.data == reference), "inception-v3-compat")


def default_metrics(extractor: str, reference: str) -> tuple[str, ...]:
    """Return the default metrics of the table that the extractor and the reference support."""
    unsupported = unsupported_metrics(extractor_facts(extractor), reference_facts(reference), sys.maxsize)
    return tuple(name for name in BY_DEFAULT if name not in unsupported)


def external_config(
    pixels: Pixels, reference: str, extractor: str = "", metrics: tuple[str, ...] = (), extractor_weights: str = ""
) -> EvaluationConfig:
    """Return how to measure `pixels` against `reference`, by default with its extractor and metrics.

    `external_evaluation_key` checks the result. Its fields about sampling have no meaning for external samples."""
    extractor = extractor or default_extractor(reference)
    given = {
        "extractor": extractor,
        "extractor_weights": extractor_weights,
        "samples": pixels.count,
        "reference": reference,
        "metrics": metrics or default_metrics(extractor, reference),
    }
    return EvaluationConfig().model_copy(update=given)


def external_evaluation_key(pixels: Pixels, evaluation: EvaluationConfig) -> records.EvaluationKey:
    """Return the key under which `pixels` are measured; raise UserError for what does not fit them."""
    channels, height, width = pixels.shape
    if height != width:
        raise UserError(f"samples: images are {height} x {width} pixels; they must be square")
    return external_key(evaluation, (channels, height))


@retry_if_shards_removed
def evaluate_external(
    pixels: Pixels,
    evaluation: EvaluationConfig,
    device: torch.device | str = "cpu",
    context: EvaluationContext = SINGLE_PROCESS_CONTEXT,
) -> records.Record:
    """Return the record of `pixels`, measured as `evaluation` says, on every rank.

    Features are kept as shards in the cache until the record is made, so that an interruption loses one batch.
    """
    key, processes = external_evaluation_key(pixels, evaluation), context.processes
    check_requirements(evaluation)
    suite = metric_suite(evaluation, key, str(device))
    content = processes.on_rank_zero(lambda: pixels.sha256)
    processes.on_rank_zero(suite.load_reference)
    made_of = {"samples": content, "key": key.digest, "batch": evaluation.batch}
    with _folder(digest(made_of), processes) as folder:
        shards = Shards(folder, pixels.count, evaluation.batch, suite.layers, made_of)
        with processes.join():
            for batch in context.missing(shards):
                images = np.concatenate(list(pixels.batches(batch.size, batch.start, batch.stop)))
                shards.write(batch, suite.extract(images))
        found = processes.on_rank_zero(lambda: suite.measure(shards.whole, None))
        if processes.is_rank_zero:
            shards.remove()
    return records.Record(
        run_id=f"outside-{content[:12]}",
        step=0,
        key=key,
        metrics=found,
        timing={},
        provenance={"samples_sha256": content, CREATED: utc()},
    )


@contextmanager
def _folder(name: str, processes: ProcessGroup) -> Iterator[Path]:
    """Yield a folder for shards: in the cache or, if that is not writable, a temporary one."""
    folder, temporary = cache.folder() / "shards" / name, False
    if processes.is_rank_zero:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            temporary = not os.access(folder, os.W_OK)
        except OSError:
            temporary = True
        folder = Path(tempfile.mkdtemp(prefix="diffussm-")) if temporary else folder
    try:
        yield Path(processes.broadcast(str(folder)))
    finally:
        if temporary:
            shutil.rmtree(folder, ignore_errors=True)
