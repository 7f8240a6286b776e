"""`diffussm evaluate`: records of runs' milestones and of external samples."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from diffussm.commands.record_table import SAMPLING_FIELDS, format_records
from diffussm.data.pixels import FolderPixels, open_pixels
from diffussm.distributed.group import ProcessGroup, init_from_environment, select_device
from diffussm.errors import NotFinite, UserError
from diffussm.host import provenance
from diffussm.metrics.context import EvaluationContext
from diffussm.metrics.data_digests import remarks
from diffussm.metrics.decoding.given import missing_vae
from diffussm.metrics.evaluation.folders import evaluate_folder, folder_key, measured_config
from diffussm.metrics.evaluation.milestones import evaluate_milestone
from diffussm.metrics.evaluation.model import remove_leftovers
from diffussm.metrics.external import evaluate_external, external_config, external_evaluation_key
from diffussm.metrics.external_code import describe_changes, evaluation_code
from diffussm.metrics.key import evaluation_key, key_digests
from diffussm.models.pretrained import is_model_folder
from diffussm.models.trained import requested_config, select_milestone
from diffussm.progress import Progress
from diffussm.run.execution import describe_execution, resolve_execution
from diffussm.store import records
from diffussm.store.records import common_key
from diffussm.store.rundir import RunDir, is_run_folder

Kind = Literal["run", "model", "samples"]


def evaluate_paths(
    paths: Sequence[Path],
    step: int | None,
    settings: Mapping[str, Any],
    options: Mapping[str, Any],
    sampling: Mapping[str, Any],
    out: Path | None,
    as_json: bool,
) -> str:
    """Return what `diffussm evaluate` prints: a table under the key that all paths share, or the records as JSON; "" on
    all ranks but zero.

    `settings` are fields of the config and `sampling` those of the evaluation, for runs and models only; `options` are
    fields of the evaluation, for all paths. `out` is the folder for records of models.
    """
    if stray := [key for key in settings if not key.startswith("evaluation.")]:
        raise UserError(f"--set {stray[0]}: only fields of the evaluation can be set here, as evaluation.<field>")
    set_here = {key.removeprefix("evaluation."): value for key, value in settings.items()}
    overrides = set_here | dict(sampling) | dict(options)
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
    kinds = {path: _kind_of(path) for path in paths}
    _check_options(kinds, step, {**set_here, **sampling}, options, out)
    keys = []  # checked before anything is measured: records of different keys share no table
    for path, kind in kinds.items():
        if kind == "run":
            keys.append(evaluation_key(requested_config(RunDir(path), overrides)))
        elif kind == "model":
            keys.append(folder_key(path, measured_config(path, overrides)))
        else:
            pixels = open_pixels(path)
            keys.append(external_evaluation_key(pixels, external_config(pixels, **options)))
    if not as_json:
        common_key(keys, "samples", SAMPLING_FIELDS)
    found: dict[str, records.Record] = {}
    with init_from_environment() as processes:
        for path, kind in kinds.items():
            if kind == "run":
                record = evaluate_run(RunDir(path), step, overrides, processes)
            elif kind == "model":
                record = evaluate_model_folder(path, overrides, out, processes)
            else:
                record = evaluate_files(path, options, processes)
            if record:
                found[str(path)] = record
    if not found:
        return ""
    if as_json:
        return json.dumps([{"path": path, **r.model_dump(mode="json")} for path, r in found.items()], indent=1) + "\n"
    return format_records(found) + "\n"


def _kind_of(path: Path) -> Kind:
    if is_run_folder(path):
        return "run"
    return "model" if path.is_dir() and is_model_folder(path) else "samples"


def _check_options(
    kinds: Mapping[Path, Kind],
    step: int | None,
    of_models: Mapping[str, Any],
    options: Mapping[str, Any],
    out: Path | None,
) -> None:
    """Raise UserError for options that no path reads, and for a path that needs a reference."""
    first = next(iter(kinds))
    if step is not None and "run" not in kinds.values():
        raise UserError(f"{first}: not a run folder; --step applies to runs only")
    if out is not None and "model" not in kinds.values():
        raise UserError(f"{first}: not a model's folder; --out applies to the records of models only")
    if of_models and {*kinds.values()} == {"samples"}:
        raise UserError(
            f"{first}: neither a run's folder nor a model's; {', '.join(of_models)}: options of how samples are made, "
            "and --set, apply to runs and models only"
        )
    for path, kind in kinds.items():
        if kind != "run" and "reference" not in options:
            raise UserError(f"{path}: not a run folder, so the reference must be given: --reference")


def evaluate_run(
    run: RunDir, step: int | None, overrides: Mapping[str, Any], processes: ProcessGroup
) -> records.Record | None:
    """Return the record of a milestone (None: the last) under the latest request of the run, changed by `overrides`;
    the evaluation is run if there is no record yet. None on all ranks but zero."""
    config = requested_config(run, overrides)
    if "vae" in overrides and (missing := missing_vae(config)):
        raise UserError(missing)  # also where the record, by another one, is there
    step = select_milestone(run, config.evaluation.weights, step)
    wanted = key_digests(config)
    if processes.broadcast(records.find(run.milestone(step), wanted) is not None):
        if processes.is_rank_zero:
            remove_leftovers(run.evaluation(step, wanted.key).path)
    else:
        device = select_device()
        execution = resolve_execution(run, config, device=device)
        samples = config.evaluation.samples if processes.is_rank_zero else 0
        context = EvaluationContext(processes, report=Progress(f"{run.run_id}, step {step}: samples", samples))
        described = provenance.describe(evaluation_code(config))
        described |= describe_execution(run, execution, step)
        origin = {**described, "processes": processes.world_size}
        warnings = (f"warning: {line}" for line in remarks(config))
        for line in (*describe_changes(run, origin), *warnings) if processes.is_rank_zero else ():
            print(line, file=sys.stderr)
        try:
            evaluate_milestone(run, config, step, execution.backend, device, origin, context)
        except NotFinite as error:
            raise UserError(str(error)) from None
    return records.find(run.milestone(step), wanted) if processes.is_rank_zero else None


def evaluate_model_folder(
    folder: Path, overrides: Mapping[str, Any], out: Path | None, processes: ProcessGroup
) -> records.Record | None:
    """Return the record of the model in a folder, evaluated with `overrides` of fields of the evaluation, if it was not
    yet; it lies in `out`, or below the folder. None on all ranks but zero."""
    config, device = measured_config(folder, overrides), select_device()
    progress = Progress(f"{folder}: samples", config.evaluation.samples if processes.is_rank_zero else 0)
    described = provenance.describe(evaluation_code(config))
    origin = {**described, "device": device.partition(":")[0], "processes": processes.world_size}
    try:
        record = evaluate_folder(folder, config, out, device, origin, EvaluationContext(processes, report=progress))
    except NotFinite as error:
        raise UserError(str(error)) from None
    return record if processes.is_rank_zero else None


def evaluate_files(path: Path, options: Mapping[str, Any], processes: ProcessGroup) -> records.Record | None:
    """Return the record of a folder of PNG files or of an .npz of samples; None on all ranks but zero."""
    pixels = open_pixels(path)
    evaluation = external_config(pixels, **options)
    progress = Progress(f"{path}: samples", pixels.count if processes.is_rank_zero else 0)
    context = EvaluationContext(processes, report=progress)
    try:
        record = evaluate_external(pixels, evaluation, select_device(), context)
    except NotFinite as error:
        raise UserError(f"{path}: {error}") from None
    if isinstance(pixels, FolderPixels) and pixels.listing.skipped and processes.is_rank_zero:
        print(f"{path}: {pixels.listing}", file=sys.stderr)
    return record if processes.is_rank_zero else None
