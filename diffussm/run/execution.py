"""Execution settings of a run: chosen at its first start and reused at every later one, but for ordered changes."""

import os
import sys
from typing import Any

import torch

from diffussm.config import Config, ModelConfig
from diffussm.distributed.launch_environment import local_world_size
from diffussm.host.machine import keep_freed_memory, usable_cores
from diffussm.ssm.backends import PORTABLE
from diffussm.ssm.selection import fallback_reason, select, unavailable_reason
from diffussm.store.execution import Execution, SettingsFiles, StepSettings
from diffussm.store.rundir import RunDir


def resolve_execution(run: RunDir, config: Config, threads: int = 0, processes: int = 1, device: str = "") -> Execution:
    """Return the run's execution settings and apply them to this process, which is one of `processes`.

    `threads` applies if the config sets none; `device` replaces the run's. If the requested or stored backend does not
    run on this machine, the portable one is used. What is used instead of a backend, and why, is printed.
    """
    training, model = config.training, config.model
    device_type = "cuda" if torch.cuda.is_available() else "cpu"
    ordered = SettingsFiles(run.path).ordered()
    settings = ordered or StepSettings.of(config)
    execution = run.decide_execution(
        Execution(
            backend=select(training.backend, device_type, model.width, model.length),
            threads=training.threads or threads or max(1, usable_cores() // local_world_size(os.environ)),
            device=device_type,
            micro_batches=processes,
            **settings.step_settings,
        )
    )
    if ordered:
        execution = execution.with_settings(ordered)
    if device:
        execution = execution.model_copy(update={"device": device.partition(":")[0]})
    reason = fallback_reason(training.backend, execution.backend, execution.device, model.width, model.length)
    for backend in (training.backend, execution.backend):
        if unavailable := unavailable_reason(backend, execution.device):
            execution = execution.model_copy(update={"backend": PORTABLE})
            reason = f"{backend} does not run here: {unavailable}"
            break
    if reason and _may_use_s4d(model):
        print(f"{run.run_id}: S4D uses {execution.backend}, because {reason}", file=sys.stderr)
    keep_freed_memory()
    torch.set_num_threads(execution.threads)
    return execution


def describe_execution(run: RunDir, execution: Execution, step: int) -> dict[str, Any]:
    """Return for the provenance of a record how it was measured, and by which settings the training came to `step`."""
    held = SettingsFiles(run.path).held(run.execution() or execution, step)
    common = execution.model_dump(by_alias=True, exclude=set(execution.step_settings))
    return {**common, "step_settings": [one.model_dump() for one in held]}


def held_executions(run: RunDir, execution: Execution, last: int) -> list[tuple[Execution, int]]:
    """Return by which settings the training came to step `last`, and until which step each held."""
    held = SettingsFiles(run.path).held(run.execution() or execution, last)
    ends = [*(one.step for one in held[1:]), last]
    return [(execution.with_settings(one), end) for one, end in zip(held, ends, strict=True)]


def _may_use_s4d(model: ModelConfig) -> bool:
    return model.kind == "diffussm" and model.mixer not in ("attention", "identity")  # an external mixer may
