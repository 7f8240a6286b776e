"""`diffussm sample --npz`: samples of a run as a file for any evaluator, made by one process or several."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffussm.commands.sample_sheets import check_label, repeated
from diffussm.config import digest
from diffussm.data.pixels import write_npz
from diffussm.distributed.group import ProcessGroup, select_device
from diffussm.errors import UserError, naming_weights
from diffussm.metrics.context import EvaluationContext
from diffussm.metrics.sampling import SampleMaker
from diffussm.metrics.shards import Shards, retry_if_shards_removed
from diffussm.models.trained import load_network, requested_config, select_milestone
from diffussm.progress import Progress
from diffussm.run.execution import resolve_execution
from diffussm.stopping import Stopped
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
    step = select_milestone(run, config.evaluation.weights, step)
    device = select_device()
    execution = resolve_execution(run, config, device=device)
    network = load_network(run, config, config.evaluation.weights, step, execution.backend, device)
    content = {
        "weights": file_sha256(run.weights(step, config.evaluation.weights)),
        "config": config.model_dump(mode="json"),
        "count": count,
        "label": label,
    }
    folder = out.with_name(f".{out.name}.{digest(content)}.shards")
    shards = Shards(folder, count, min(config.evaluation.batch, count), ("pixels",), content)
    progress = Progress(f"{run.run_id}, step {step}: samples", count if processes.is_rank_zero else 0)
    context = EvaluationContext(processes, report=progress)
    with naming_weights(run.weights(step, config.evaluation.weights), UserError):
        _sample(SampleMaker(config, network, device, repeated(label, count)), shards, out, context)


@retry_if_shards_removed
def _sample(make_samples: SampleMaker, shards: Shards, out: Path, context: EvaluationContext) -> None:
    """Make the missing shards, and of all of them `out`, unless another process has made it meanwhile."""
    with context.processes.join(raising=Stopped):
        for batch in context.missing(shards):
            if out.exists():
                break
            shards.write(batch, {"pixels": make_samples(batch.start, batch.size).pixels})

    def finish() -> None:
        if not out.exists():
            labels = make_samples.labels(0, shards.count)
            write_npz(out, make_samples.shape, shards.count, shards.parts("pixels"), arr_1=labels)
        shards.remove()

    context.processes.on_rank_zero(finish)
