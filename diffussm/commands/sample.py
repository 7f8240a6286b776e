"""`diffussm sample --npz`: samples of a run as a file for any evaluator, made by one process or several."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffussm.commands.sample_sheets import check_label
from diffussm.config import digest
from diffussm.data.pixels import write_npz
from diffussm.distributed.group import ProcessGroup, device_here
from diffussm.errors import NotFinite, UserError
from diffussm.metrics.sampling import SampleMaker
from diffussm.metrics.shards import Arrays, Shards
from diffussm.models.trained import kept_step, load_network, requested_config
from diffussm.progress import Progress
from diffussm.run.execution import resolve_execution
from diffussm.store.hashes import file_sha256
from diffussm.store.rundir import RunDir


def write_samples(
    run: RunDir,
    count: int,
    out: Path,
    label: int | None,
    overrides: Mapping[str, Any],
    step: int | None,
    processes: ProcessGroup,
) -> None:
    """Write samples 0 .. count - 1, of class `label` if given, to `out`: `arr_0` uint8 (N, H, W, C), `arr_1` labels.

    Batches are kept beside `out` until it is complete, so that an interrupted call can be resumed; they are never all
    in memory. `overrides`, `step` and errors are those of `write_sheets`.
    """
    if processes.broadcast(out.exists()):
        raise UserError(f"{out}: already exists; remove it, or choose another name")
    config = requested_config(run, overrides)
    check_label(config, label)
    step = kept_step(run, config.evaluation.weights, step)
    device = device_here()
    execution = resolve_execution(run, config, device=device)
    network = load_network(run, config, config.evaluation.weights, step, execution.backend, device)
    make_samples, m = SampleMaker(config, network, device, label), config.model

    def make(start: int, size: int) -> Arrays:
        return {"pixels": make_samples(start, size).pixels}

    content = {
        "weights": file_sha256(run.weights(step, config.evaluation.weights)),
        "config": config.model_dump(mode="json"),
        "count": count,
        "label": label,
    }
    folder = out.with_name(f".{out.name}.{digest(content)}.shards")
    shards = Shards(folder, count, min(config.evaluation.batch, count), ("pixels",))

    def merge() -> None:
        shape = (m.channels, m.image_size, m.image_size)
        write_npz(out, shape, count, shards.parts("pixels"), arr_1=make_samples.labels(0, count))

    progress = Progress(f"{run.run_id}, step {step}: samples", count if processes.is_rank_zero else 0)
    try:
        shards.merged(make, merge, processes, progress, out.exists)
    except NotFinite as error:
        raise UserError(f"{run.path}, step {step}: {error}") from None
    if processes.is_rank_zero:
        shards.remove()
