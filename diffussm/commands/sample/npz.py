"""Samples of a model as a file for any evaluator, made by one process or several."""

from pathlib import Path

from diffussm.commands.sample.model import SampledModel
from diffussm.commands.sample.sheets import repeated
from diffussm.config import digest
from diffussm.data.pixels import write_npz
from diffussm.distributed.group import ProcessGroup, select_device
from diffussm.errors import UserError, naming_weights
from diffussm.metrics.context import EvaluationContext
from diffussm.metrics.decoding.given import vae_sha256
from diffussm.metrics.sampling import SampleMaker
from diffussm.metrics.shards import Shards, retry_if_shards_removed
from diffussm.progress import Progress


def write_samples(model: SampledModel, count: int, out: Path, processes: ProcessGroup) -> None:
    """Write samples 0 .. count - 1, of the class that is asked for if one is, to `out`: `arr_0` uint8 (N, H, W, C),
    `arr_1` labels.

    Batches are kept beside `out` until it is complete, so that an interrupted call can be resumed; they are never all
    in memory. Raises UserError if `out` is there already.
    """
    if processes.broadcast(out.exists()):
        raise UserError(f"{out}: already exists; remove it, or choose another name")
    config, device, label = model.config, select_device(), model.labels[0]
    network = model.load(device, as_evaluated=True)
    content = {
        "weights": model.weights_sha256,
        "config": config.model_dump(mode="json"),
        "vae": vae_sha256(config),
        "count": count,
        "label": label,
    }
    folder = out.with_name(f".{out.name}.{digest(content)}.shards")
    shards = Shards(folder, count, min(config.evaluation.batch, count), ("pixels",), content)
    progress = Progress(f"{model.name}: samples", count if processes.is_rank_zero else 0)
    context = EvaluationContext(processes, report=progress)
    with naming_weights(model.weights, UserError):
        _sample(SampleMaker(config, network, device, repeated(label, count)), shards, out, context)


@retry_if_shards_removed
def _sample(make_samples: SampleMaker, shards: Shards, out: Path, context: EvaluationContext) -> None:
    """Make the missing shards, and of all of them `out`, unless another process has made it meanwhile."""
    with context.processes.join():
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
