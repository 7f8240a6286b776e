"""Evaluation of a run's milestones on disk: kept weights in; samples, a sheet and a record out."""

import io
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load

from diffussm.config import Config, validate
from diffussm.distributed.group import SINGLE_PROCESS, ProcessGroup
from diffussm.errors import UserError
from diffussm.metrics.evaluate import Evaluator
from diffussm.metrics.sampling import Samples
from diffussm.models.build import build_model
from diffussm.models.diffussm import DiffuSSM
from diffussm.models.dit import DiT
from diffussm.models.weights import load_weights
from diffussm.store import records
from diffussm.store.rundir import RunDir
from diffussm.store.workdir import WorkDir, write_whole

SHARDS = "shards"  # folder of an evaluation that is under way
SHEET_PIXELS = 512  # least width of a sheet


def evaluate_milestone(
    run: RunDir,
    config: Config,
    step: int,
    evaluator: Evaluator,
    backend: str,
    provenance: Mapping[str, Any],
    progress: Callable[[int], None],
    before_call: Callable[[torch.nn.Module, tuple[torch.Tensor, ...]], None] | None = None,
    processes: ProcessGroup = SINGLE_PROCESS,
) -> None:
    """Measure the weights kept at `step` as config.evaluation asks, and write sheet, samples and, last, the record.

    `progress` is told how many samples are made, `before_call` is called before each call of the network. Of many
    processes the first writes. Samples that an earlier attempt left are not made again. Where another has made the
    record meanwhile, it stays.
    """
    network = load_network(run, config, config.evaluation.weights, step, backend, evaluator.device)
    if before_call:
        network.register_forward_pre_hook(before_call)
    path = run.record(step, evaluator.key.digest)
    began = time.monotonic()
    found = evaluator(network, path.parent / SHARDS, processes, progress, lambda: records.read(path) is not None)
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


def load_network(
    run: RunDir, config: Config, kind: str, step: int, backend: str, device: torch.device | str = "cpu"
) -> DiT | DiffuSSM:
    """The run's model with the weights (`kind`: ema | raw) kept at `step`, ready to sample from."""
    network = build_model(config, backend).to(device).eval()
    path = run.weights(step, kind)
    load_weights(network, load(path.read_bytes()), str(path))
    return network


def asked_of(run: RunDir, overrides: Mapping[str, Any]) -> Config:
    """The run's config with the evaluation that was asked of it last, changed by `overrides` of its fields."""
    evaluation = run.latest_request().evaluation.model_dump(mode="json") | dict(overrides)
    return validate(run.config().model_dump(mode="json") | {"evaluation": evaluation}, run.run_id)


def kept_step(run: RunDir, kind: str, step: int | None) -> int:
    """The step whose weights (ema | raw) are asked for, the last one if `step` is None; UserError if not kept."""
    kept = run.kept_milestones(kind)
    if not kept:
        raise UserError(f"{run.path}: no {kind} weights are kept yet")
    if step is not None and step not in kept:
        raise UserError(f"--step {step}: weights are kept of steps {', '.join(map(str, kept))}")
    return kept[-1] if step is None else step


def sheet(pixels: NDArray[np.uint8], columns: int = 8) -> Image.Image:
    """Images (N, C, H, W) in rows of `columns`, one white pixel between them, enlarged to be looked at; the last row
    may end in white."""
    white = np.full((-len(pixels) % columns, *pixels.shape[1:]), 255, dtype=np.uint8)
    pixels = np.concatenate([pixels, white])
    framed = np.pad(pixels, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=255)
    whole = rearrange(framed, "(r k) c h w -> (r h) (k w) c", k=columns)
    whole = np.repeat(whole, 3, axis=-1) if whole.shape[-1] == 1 else whole
    image = Image.fromarray(whole)
    scale = max(1, SHEET_PIXELS // image.width)
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def _write_samples(samples: Samples, folder: Any) -> None:
    shown = samples.pixels
    arrays, png = io.BytesIO(), io.BytesIO()
    np.savez_compressed(arrays, arr_0=rearrange(shown, "n c h w -> n h w c"), labels=samples.labels)
    sheet(shown).save(png, "PNG")
    write_whole(folder / "samples.npz", arrays.getvalue())
    write_whole(folder / "samples.png", png.getvalue())


def _seconds_per_step(run: RunDir, step: int) -> float:
    """Median over the loss log up to `step`."""
    return float(np.median([row["seconds_per_step"] for row in run.loss_rows() if row["step"] <= step]))
