"""Options of sbatch: the numbers that they mean, and the options that the resources of a grid translate to."""

import math
import re
from collections.abc import Mapping

from ablations.grid.schema import Resources
from diffussm.errors import UserError

Value = str | int | float | bool
GPU_OPTIONS = ("gpus", "gpus_per_node", "gpus_per_task", "gres")
DIVISIBLE_GPU_OPTIONS = ("gpus_per_node", "gres", "gpus_per_task")  # from which the number of nodes follows


def count(options: Mapping[str, Value], name: str) -> int:
    """Return the value of an option that is a number; 0 if it is unset."""
    return int(options.get(name) or 0)


def gpu_count(name: str, options: Mapping[str, Value]) -> int:
    """Return the number of GPUs in an option such as 8, a100, a100:8 or (gres) gpu:a100:8,nvme:1; 0 if it has none."""
    value = str(options.get(name) or "")
    if name == "gres":
        value = next((part for part in value.split(",") if part.startswith("gpu")), "")
    if not value:
        return 0
    last = value.rpartition(":")[2]
    return int(last) if last.isdigit() else 1


def sbatch_options(resources: Resources, profile_options: Mapping[str, Value]) -> dict[str, Value]:
    """Return the resources of a level as options of sbatch, in the form that the profile uses: a task for each of
    `gpus` GPUs, on as few nodes as hold them; `cpus` and `memory_gb` of all tasks together; a time limit of `hours`.

    Raise UserError if the profile requests no GPUs, or if they cannot be divided evenly among the nodes.
    """
    out: dict[str, Value] = {}
    nodes, tasks = count(profile_options, "nodes") or 1, count(profile_options, "ntasks_per_node") or 1
    if resources.gpus:
        used = next((name for name in DIVISIBLE_GPU_OPTIONS if gpu_count(name, profile_options)), None)
        if used is None:
            raise UserError(
                f"resources.gpus = {resources.gpus}: the profile asks for no GPUs per node or task; set one of "
                "gpus_per_node, gres and gpus_per_task"
            )
        per_node = tasks if used == "gpus_per_task" else gpu_count(used, profile_options)
        nodes = math.ceil(resources.gpus / per_node)
        if resources.gpus % nodes:
            raise UserError(
                f"resources.gpus = {resources.gpus}: cannot be divided evenly among {nodes} nodes of {per_node} GPUs"
            )
        tasks = resources.gpus // nodes
        out |= {"nodes": nodes, "ntasks_per_node": tasks}
        if used != "gpus_per_task":
            out[used] = _with_gpus(str(profile_options[used]), tasks)
    if resources.cpus:
        out["cpus_per_task"] = math.ceil(resources.cpus / (nodes * tasks))
    if resources.memory_gb:
        out["mem"] = f"{math.ceil(resources.memory_gb / nodes * 1024)}M"
    if resources.hours:
        minutes = math.ceil(resources.hours * 60)
        out["time"] = f"{minutes // 60}:{minutes % 60:02d}:00"
    return out


def _with_gpus(value: str, gpus: int) -> str:
    """Return the option with another number of GPUs."""
    parts = value.split(",")
    which = next((i for i, part in enumerate(parts) if part.startswith("gpu")), 0)
    kind = re.sub(r"(^|:)\d+$", "", parts[which])
    parts[which] = f"{kind}:{gpus}" if kind else str(gpus)
    return ",".join(parts)
