"""Evaluation of a run's milestones on disk: kept weights in; samples, a sheet and a record out."""

import io
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange

from diffussm.config import Config
from diffussm.distributed.group import SINGLE_PROCESS, ProcessGroup
from diffussm.metrics.evaluate import Evaluator
from diffussm.metrics.sampling import Samples
from diffussm.metrics.sheet import sheet
from diffussm.models.trained import load_network
from diffussm.stopping import StopRequest
from diffussm.store import records
from diffussm.store.rundir import RunDir
from diffussm.store.workdir import WorkDir
from diffussm.store.writing import write_whole

SHARDS = "shards"  # folder of an evaluation that is under way


def evaluate_milestone(
    run: RunDir,
    config: Config,
    step: int,
    evaluator: Evaluator,
    backend: str,
    provenance: Mapping[str, Any],
    progress: Callable[[int], None],
    processes: ProcessGroup = SINGLE_PROCESS,
    stop: StopRequest | None = None,
) -> None:
    """Measure the weights kept at `step` as config.evaluation asks, and write sheet, samples and, last, the record.

    `progress` is told how many samples are made. Of many processes the first writes. Samples that an earlier attempt
    left are not made again. Where another has made the record meanwhile, it stays. Raises Stopped between steps of the
    sampler once `stop` is set.
    """
    network = load_network(run, config, config.evaluation.weights, step, backend, evaluator.device)
    path = run.record(step, evaluator.key.digest)
    began = time.monotonic()
    found = evaluator(network, path.parent / SHARDS, processes, progress, lambda: records.read(path) is not None, stop)
    if found is None:
        if processes.is_rank_zero:
            tidy(path.parent)
        return
    seconds = time.monotonic() - began
    record = records.Record(
        run_id=run.run_id,
        step=step,
        key=evaluator.key,
        metrics=found.metrics,
        timing={"seconds_per_step": _seconds_per_step(run, step), "evaluation_seconds": seconds},
        provenance=dict(provenance),
    )
    try:
        _write_samples(found.shown, path.parent)
        records.write(record, path)
    except FileNotFoundError:  # of a file that another, which was faster, tidied up
        if records.read(path) is None:
            raise
    tidy(path.parent)


def tidy(folder: Path) -> None:
    """Remove what attempts at an evaluation that has its record left in its folder."""
    shutil.rmtree(folder / SHARDS, ignore_errors=True)
    WorkDir(folder).remove_temporaries()


def _write_samples(samples: Samples, folder: Path) -> None:
    shown = samples.pixels
    arrays, png = io.BytesIO(), io.BytesIO()
    np.savez_compressed(arrays, arr_0=rearrange(shown, "n c h w -> n h w c"), labels=samples.labels)
    sheet(shown).save(png, "PNG")
    write_whole(folder / "samples.npz", arrays.getvalue())
    write_whole(folder / "samples.png", png.getvalue())


def _seconds_per_step(run: RunDir, step: int) -> float:
    """Median over the loss log up to `step`."""
    return float(np.median([row["seconds_per_step"] for row in run.loss_rows() if row["step"] <= step]))
