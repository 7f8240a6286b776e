"""Options of sbatch: the numbers that they mean, and the options that the resources of a grid translate to."""

import math
import re
from collections.abc import Mapping

from ablations.grid.schema import Resources
from diffussm.errors import UserError

Value = str | int | float | bool
GPU_OPTIONS = ("gpus", "gpus_per_node", "gpus_per_task", "gres")


def count(options: Mapping[str, Value], name: str) -> int:
    """The value of an option that is a number; 0 where it is unset."""
    return int(options.get(name) or 0)


def gpus_of(name: str, options: Mapping[str, Value]) -> int:
    """The number of GPUs in an option such as 8, a100, a100:8 or (gres) gpu:a100:8,nvme:1; 0 where it has none."""
    asked = str(options.get(name) or "")
    if name == "gres":
        asked = next((part for part in asked.split(",") if part.startswith("gpu")), "")
    if not asked:
        return 0
    last = asked.rpartition(":")[2]
    return int(last) if last.isdigit() else 1


def of_resources(needs: Resources, options: Mapping[str, Value]) -> dict[str, Value]:
    """The resources of a level as options of sbatch, in the form that the profile uses: a task for each of `gpus` GPUs,
    on as few nodes as hold them; `cpus` and `memory_gb` of all tasks together; a time limit of `hours`.

    UserError for GPUs where the profile requests none, or where they cannot be divided evenly among the nodes.
    """
    out: dict[str, Value] = {}
    nodes, tasks = count(options, "nodes") or 1, count(options, "ntasks_per_node") or 1
    if needs.gpus:
        used = next((name for name in ("gpus_per_node", "gres", "gpus_per_task") if gpus_of(name, options)), None)
        if used is None:
            raise UserError(
                f"resources.gpus = {needs.gpus}: the profile asks for no GPUs per node or task; set one of "
                "gpus_per_node, gres and gpus_per_task"
            )
        per_node = tasks if used == "gpus_per_task" else gpus_of(used, options)
        nodes = math.ceil(needs.gpus / per_node)
        if needs.gpus % nodes:
            raise UserError(
                f"resources.gpus = {needs.gpus}: cannot be divided evenly among {nodes} nodes of {per_node} GPUs"
            )
        tasks = needs.gpus // nodes
        out |= {"nodes": nodes, "ntasks_per_node": tasks}
        if used != "gpus_per_task":
            out[used] = _with_gpus(str(options[used]), tasks)
    if needs.cpus:
        out["cpus_per_task"] = math.ceil(needs.cpus / (nodes * tasks))
    if needs.memory_gb:
        out["mem"] = f"{math.ceil(needs.memory_gb / nodes * 1024)}M"
    if needs.hours:
        minutes = math.ceil(needs.hours * 60)
        out["time"] = f"{minutes // 60}:{minutes % 60:02d}:00"
    return out


def _with_gpus(asked: str, gpus: int) -> str:
    """The option with another number of GPUs."""
    parts = asked.split(",")
    which = next((i for i, part in enumerate(parts) if part.startswith("gpu")), 0)
    kind = re.sub(r"(^|:)\d+$", "", parts[which])
    parts[which] = f"{kind}:{gpus}" if kind else str(gpus)
    return ",".join(parts)
