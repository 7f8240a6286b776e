"""The evaluation of the model in a folder; its record lies below the folder, or where it is asked for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from diffussm.config import Config, digest
from diffussm.errors import UserError
from diffussm.metrics.context import EvaluationContext
from diffussm.metrics.evaluation.folder_config import folder_config
from diffussm.metrics.evaluation.model import EvaluatedModel, evaluate_model, remove_leftovers
from diffussm.metrics.external import default_extractor, default_metrics
from diffussm.metrics.key import evaluation_key
from diffussm.metrics.requirements import missing_measuring_requirement
from diffussm.metrics.shards import retry_if_shards_removed
from diffussm.metrics.suite import metric_suite
from diffussm.models.pretrained import Loaded, describe_pretrained, load_pretrained
from diffussm.store import records

EVALUATIONS = "evaluations"  # folder beside the weights
UNKNOWN = "outside"  # weights of which it is not known whether they are a moving average


def measured_config(folder: Path, overrides: Mapping[str, Any]) -> Config:
    """Return the config of the folder's evaluation, by default with the extractor and the metrics of its reference."""
    reference = str(overrides.get("reference", ""))
    extractor = str(overrides.get("extractor", "")) or default_extractor(reference)
    metrics = overrides.get("metrics") or default_metrics(extractor, reference)
    return folder_config(folder, {**overrides, "extractor": extractor, "metrics": list(metrics)})


def folder_key(folder: Path, config: Config) -> records.EvaluationKey:
    """Return the key of the folder's evaluation. Raises as `evaluation_key`."""
    return evaluation_key(config).model_copy(update={"weights": describe_pretrained(folder).kind or UNKNOWN})


@retry_if_shards_removed
def evaluate_folder(
    folder: Path,
    config: Config,
    out: Path | None,
    device: torch.device | str,
    provenance: Mapping[str, Any],
    context: EvaluationContext,
) -> records.Record | None:
    """Return the record of the folder's model, on rank zero, made if it is not there yet: in `out`, or else below the
    folder. Raises as `evaluate_model`, and UserError for what measuring lacks."""
    if missing := missing_measuring_requirement(config):
        raise UserError(missing)
    key, loaded, processes = folder_key(folder, config), load_pretrained(folder), context.processes
    made_of = {
        "weights": loaded.sha256,
        "key": key.digest,
        "diffusion": config.diffusion.model_dump(mode="json"),
    }
    path = (out or folder / EVALUATIONS) / digest(made_of) / "record.json"
    if processes.broadcast(records.read(path) is not None):
        processes.on_rank_zero(lambda: remove_leftovers(path.parent))
    else:
        processes.on_rank_zero(lambda: path.parent.mkdir(parents=True, exist_ok=True))
        suite = metric_suite(config.evaluation, key, str(device))
        model = EvaluatedModel(
            config=config,
            network=loaded.model.to(device),
            key=key,
            weights=loaded.weights,
            weights_sha256=loaded.sha256,
            weights_verifiable=loaded.stamp is not None,
            run_id=f"model-{loaded.sha256[:12]}",
            step=(loaded.stamp and loaded.stamp.step) or 0,
            made_of=made_of,
            timing=dict,
        )
        evaluate_model(model, suite, path, device, {**provenance, "model": _described(folder, loaded)}, context)
    return processes.on_rank_zero(lambda: records.read(path))


def _described(folder: Path, loaded: Loaded) -> dict[str, Any]:
    stamp, source = loaded.stamp, loaded.model.source
    return {
        "folder": str(folder.absolute()),
        "run_id": stamp.run_id if stamp else "",
        "source": source._asdict() if source else None,
    }
