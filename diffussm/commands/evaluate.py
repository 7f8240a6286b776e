"""`diffussm evaluate`: records of runs' milestones and of external samples."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffussm.commands.record_table import SAMPLING_FIELDS, format_records
from diffussm.data.pixels import FolderPixels, open_pixels
from diffussm.distributed.group import ProcessGroup, init_from_environment, select_device
from diffussm.errors import NotFinite, UserError
from diffussm.host import provenance
from diffussm.metrics.context import EvaluationContext
from diffussm.metrics.data_digests import remarks
from diffussm.metrics.external import evaluate_external, external_config, external_evaluation_key
from diffussm.metrics.external_code import describe_changes, evaluation_code
from diffussm.metrics.key import evaluation_key, key_digests
from diffussm.metrics.milestones import evaluate_milestone, remove_leftovers
from diffussm.models.trained import requested_config, select_milestone
from diffussm.progress import Progress
from diffussm.run.execution import resolve_execution
from diffussm.store import records
from diffussm.store.records import common_key
from diffussm.store.rundir import RunDir, is_run_folder


def evaluate_paths(
    paths: Sequence[Path],
    step: int | None,
    settings: Mapping[str, Any],
    options: Mapping[str, Any],
    as_json: bool,
) -> str:
    """Return what `diffussm evaluate` prints: a table under the key that all paths share, or the records as JSON; "" on
    all ranks but zero.

    `settings` are fields of the config, for runs only; `options` are fields of the evaluation, for all paths.
    """
    if stray := [key for key in settings if not key.startswith("evaluation.")]:
        raise UserError(f"--set {stray[0]}: only fields of the evaluation can be set here, as evaluation.<field>")
    overrides = {key.removeprefix("evaluation."): value for key, value in settings.items()} | dict(options)
    found: dict[str, records.Record] = {}
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
    keys = []  # checked before anything is measured: records of different keys share no table
    for path in paths:
        if is_run_folder(path):
            keys.append(evaluation_key(requested_config(RunDir(path), overrides)))
        elif (settings or step is not None) and not any(map(is_run_folder, paths)):
            raise UserError(f"{path}: not a run folder; --set and --step apply to runs only")
        elif "reference" not in options:
            raise UserError(f"{path}: not a run folder, so the reference must be given: --reference")
        else:
            pixels = open_pixels(path)
            keys.append(external_evaluation_key(pixels, external_config(pixels, **options)))
    if not as_json:
        common_key(keys, "samples", SAMPLING_FIELDS)
    with init_from_environment() as processes:
        for path in paths:
            if is_run_folder(path):
                record = evaluate_run(RunDir(path), step, overrides, processes)
            else:
                record = evaluate_files(path, options, processes)
            if record:
                found[str(path)] = record
    if not found:
        return ""
    if as_json:
        return json.dumps([{"path": path, **r.model_dump(mode="json")} for path, r in found.items()], indent=1) + "\n"
    return format_records(found) + "\n"


def evaluate_run(
    run: RunDir, step: int | None, overrides: Mapping[str, Any], processes: ProcessGroup
) -> records.Record | None:
    """Return the record of a milestone (None: the last) under the latest request of the run, changed by `overrides`;
    the evaluation is run if there is no record yet. None on all ranks but zero."""
    config = requested_config(run, overrides)
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
        origin = {**described, **execution.model_dump(by_alias=True), "processes": processes.world_size}
        warnings = (f"warning: {line}" for line in remarks(config))
        for line in (*describe_changes(run, origin), *warnings) if processes.is_rank_zero else ():
            print(line, file=sys.stderr)
        try:
            evaluate_milestone(run, config, step, execution.backend, device, origin, context)
        except NotFinite as error:
            raise UserError(str(error)) from None
    return records.find(run.milestone(step), wanted) if processes.is_rank_zero else None


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
