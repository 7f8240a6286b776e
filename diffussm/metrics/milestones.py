"""The evaluation of a run's milestone: it reads the kept weights and writes samples, a sheet and a record."""

import io
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange

from diffussm.config import Config
from diffussm.errors import UserError, naming_weights
from diffussm.host.clock import utc
from diffussm.host.provenance import CREATED
from diffussm.metrics.context import EvaluationContext
from diffussm.metrics.data_digests import data_provenance
from diffussm.metrics.key import evaluation_key
from diffussm.metrics.pictures.names import names_of
from diffussm.metrics.pictures.nearest import nearest_at_milestone
from diffussm.metrics.pictures.sheet import Nearest, sheet
from diffussm.metrics.requirements import missing_measuring_requirement
from diffussm.metrics.sampling import SampleMaker, Samples
from diffussm.metrics.shards import Shards, retry_if_shards_removed
from diffussm.metrics.suite import metric_suite
from diffussm.models.trained import network_with, read_kept_weights
from diffussm.stopping import Stopped
from diffussm.store import records
from diffussm.store.rundir import RunDir
from diffussm.store.workdir import WorkDir
from diffussm.store.writing import write_atomically

SHARDS = "shards"  # folder of an evaluation in progress
SAVED_SAMPLES = 64  # number of samples stored beside the record


@retry_if_shards_removed
def evaluate_milestone(
    run: RunDir,
    config: Config,
    step: int,
    backend: str,
    device: torch.device | str,
    provenance: Mapping[str, Any],
    context: EvaluationContext,
) -> None:
    """Measure the weights kept at `step` as config.evaluation asks, and write sheet, samples and, last, the record.

    Rank zero measures and writes. Samples that an earlier attempt left are not made again. Where another evaluation has
    made the record meanwhile, it stays. Raises Stopped between steps of the sampler once the context's `stop` is set,
    and NotFinite, which names the weights and the first sample that is not finite.
    """
    if missing := missing_measuring_requirement(config):  # also of another reference file than was requested
        raise UserError(missing)
    key, evaluation, processes = evaluation_key(config), config.evaluation, context.processes
    suite = metric_suite(evaluation, key, str(device))
    weights, weights_path = read_kept_weights(run, step, evaluation.weights), run.weights(step, evaluation.weights)
    network = network_with(weights, weights_path, config, backend, device)
    make_samples = SampleMaker(config, network, device, stop=context.stop)
    path, began = run.record(step, key.digest), time.monotonic()
    made_of = {"weights": weights.origin.sha256, "key": key.digest}
    arrays, batch_size = (*suite.layers, "pixels"), min(evaluation.batch, key.samples)
    shards = Shards(path.parent / SHARDS, key.samples, batch_size, arrays, made_of)
    processes.on_rank_zero(suite.load_reference)
    with processes.join(raising=Stopped), naming_weights(weights_path):
        for batch in context.missing(shards):
            if records.read(path):
                break  # another evaluation was faster
            pixels = make_samples(batch.start, batch.size).pixels
            shards.write(batch, {**suite.extract(pixels), "pixels": pixels[: max(SAVED_SAMPLES - batch.start, 0)]})

    def write_record() -> None:
        kept = min(SAVED_SAMPLES, key.samples)
        samples = Samples(shards.first("pixels", kept), make_samples.labels(0, kept))
        metrics = suite.measure(shards.whole, make_samples.labels(0, key.samples))
        timing = {**_seconds_per_step(run, step), "evaluation_seconds": time.monotonic() - began}
        nearest = nearest_at_milestone(samples.pixels, config, suite.extractor, device)
        _write_samples(samples, names_of(config, samples.labels), nearest, path.parent)
        record = records.Record(
            run_id=run.run_id,
            step=step,
            key=key,
            metrics=metrics,
            timing=timing,
            provenance={**provenance, **data_provenance(config), CREATED: utc()},
            weights_sha256=weights.origin.sha256,
            weights_verifiable=weights.origin.stamp is not None,
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


def _write_samples(samples: Samples, names: list[str], nearest: Nearest | None, folder: Path) -> None:
    shown = samples.pixels
    arrays, png = io.BytesIO(), io.BytesIO()
    stored = {"arr_0": rearrange(shown, "n c h w -> n h w c"), "labels": samples.labels}
    np.savez_compressed(arrays, **stored, **({"class_names": np.array(names)} if names else {}))  # type: ignore[arg-type]
    sheet(shown, names=names, nearest=nearest).save(png, "PNG")
    write_atomically(folder / "samples.npz", arrays.getvalue())
    write_atomically(folder / "samples.png", png.getvalue())


def _seconds_per_step(run: RunDir, step: int) -> dict[str, float]:
    """Return the median over the loss log up to `step`, by its name; nothing if no row of the log is readable."""
    rows = [row for row in run.loss_rows() if "seconds_per_step" in row]
    until = [row for row in rows if row["step"] <= step] or rows  # all, for a replayed step before the first row
    return {"seconds_per_step": float(np.median([row["seconds_per_step"] for row in until]))} if until else {}
