"""The evaluation of a model: it makes samples, measures them, and writes a sheet and a record."""

import io
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange

from diffussm.config import Config
from diffussm.diffusion.sampling import Network
from diffussm.errors import naming_weights
from diffussm.host.clock import utc
from diffussm.host.provenance import CREATED
from diffussm.metrics.context import EvaluationContext
from diffussm.metrics.data_digests import data_provenance
from diffussm.metrics.pictures.names import names_of
from diffussm.metrics.pictures.nearest import nearest_at_milestone
from diffussm.metrics.pictures.sheet import Nearest, sheet
from diffussm.metrics.sampling import SampleMaker, Samples
from diffussm.metrics.shards import Shards
from diffussm.metrics.suite import MetricSuite
from diffussm.store import records
from diffussm.store.workdir import WorkDir
from diffussm.store.writing import write_atomically

SHARDS = "shards"  # folder of an evaluation in progress
SAVED_SAMPLES = 64  # number of samples stored beside the record


@dataclass(frozen=True)
class EvaluatedModel:
    """A network with trained weights, which are those of a file, and the identity of its record."""

    config: Config
    network: Network
    key: records.EvaluationKey
    weights: Path
    weights_sha256: str
    weights_verifiable: bool
    run_id: str
    step: int
    made_of: Mapping[str, Any]  # what determines the samples, beside the code
    timing: Callable[[], dict[str, float]]  # of the training


def evaluate_model(
    model: EvaluatedModel,
    suite: MetricSuite,
    path: Path,
    device: torch.device | str,
    provenance: Mapping[str, Any],
    context: EvaluationContext,
) -> None:
    """Measure the model as its config asks, and write sheet, samples and, last, the record at `path`.

    Rank zero measures and writes. Samples that an earlier attempt left are not made again. Where another evaluation has
    made the record meanwhile, it stays. Raises Stopped between steps of the sampler once the context's `stop` is set,
    and NotFinite, which names the weights and the first sample that is not finite.
    """
    config, key, processes = model.config, model.key, context.processes
    with processes.join():
        make_samples = SampleMaker(config, model.network, device, stop=context.stop)
    began = time.monotonic()
    arrays, batch_size = (*suite.layers, "pixels"), min(config.evaluation.batch, key.samples)
    shards = Shards(path.parent / SHARDS, key.samples, batch_size, arrays, model.made_of)
    processes.on_rank_zero(suite.load_reference)
    with processes.join(), naming_weights(model.weights):
        for batch in context.missing(shards):
            if records.read(path):
                break  # another evaluation was faster
            pixels = make_samples(batch.start, batch.size).pixels
            shards.write(batch, {**suite.extract(pixels), "pixels": pixels[: max(SAVED_SAMPLES - batch.start, 0)]})

    def write_record() -> None:
        kept = min(SAVED_SAMPLES, key.samples)
        samples = Samples(shards.first("pixels", kept), make_samples.labels(0, kept))
        metrics = suite.measure(shards.whole, make_samples.labels(0, key.samples))
        timing = {**model.timing(), "evaluation_seconds": time.monotonic() - began}
        nearest = nearest_at_milestone(samples.pixels, config, suite.extractor, device)
        write_samples(samples, names_of(config, samples.labels), nearest, path.parent)
        record = records.Record(
            run_id=model.run_id,
            step=model.step,
            key=key,
            metrics=metrics,
            timing=timing,
            provenance={**provenance, **data_provenance(config), CREATED: utc()},
            weights_sha256=model.weights_sha256,
            weights_verifiable=model.weights_verifiable,
        )
        records.write(record, path)

    processes.on_rank_zero(lambda: _finish(path, write_record))


def _finish(path: Path, write_record: Callable[[], None]) -> None:
    """Write the record, unless another evaluation has written it, and tidy up."""
    try:
        if records.read(path) is None:
            write_record()
    except FileNotFoundError:  # of a shard or a temporary file that another evaluation, which was faster, removed
        if records.read(path) is None:
            raise
    remove_leftovers(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove the shards and temporary files from the folder of an evaluation that has its record."""
    shutil.rmtree(folder / SHARDS, ignore_errors=True)
    WorkDir(folder).remove_temporaries()


def write_samples(samples: Samples, names: list[str], nearest: Nearest | None, folder: Path) -> None:
    """Write samples as arrays and as a sheet."""
    shown = samples.pixels
    arrays, png = io.BytesIO(), io.BytesIO()
    stored = {"arr_0": rearrange(shown, "n c h w -> n h w c"), "labels": samples.labels}
    np.savez_compressed(arrays, **stored, **({"class_names": np.array(names)} if names else {}))  # type: ignore[arg-type]
    sheet(shown, names=names, nearest=nearest).save(png, "PNG")
    write_atomically(folder / "samples.npz", arrays.getvalue())
    write_atomically(folder / "samples.png", png.getvalue())
