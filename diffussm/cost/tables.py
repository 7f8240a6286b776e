"""The cost of models as rows and as text. No torch."""

from collections.abc import Mapping, Sequence
from typing import Any

from diffussm.config import Config
from diffussm.cost.closed_form import forward_macs, parameters, parts
from diffussm.cost.executed import executed_macs
from diffussm.ssm.backends import backend_for_cost
from diffussm.tables import aligned, format_count

LEGEND = """\
MACs: multiply-adds counted once (FLOPs are twice as many). Call: the network on one image, dense products and the mixer
in closed form, whatever the backend. Executed: what the backend computes for one image; fixed: once per call, whatever
the batch. Image: all calls of the sampler, times the images per call for one sampled image (2 with guidance). Step:
forward and backward pass on the whole batch."""

LEFT_ALIGNED = ("model", "pixels", "part", "backend", "pass")  # headings of text columns; all others are numbers
COUNTS = ("tokens", "calls", "guidance_factor", "batch", "times", "launches")  # small numbers, shown as they are
HEADINGS = {
    "resolution": "pixels",
    "tokens": "L",
    "macs_per_call": "MACs/call",
    "dense_macs": "dense",
    "mixer_macs": "mixer",
    "executed_macs_per_call": "executed",
    "macs_fixed_per_call": "fixed",
    "guidance_factor": "images/call",
    "macs_per_image": "MACs/image",
    "macs_per_training_step": "MACs/step",
    "macs_of_one": "of one",
    "bytes_of_one": "of one",
    "flops": "FLOPs",
}


def cost(model: str, resolution: str, config: Config) -> dict[str, Any]:
    """Return the row of a model at a resolution.

    macs_per_call: of the network on one image. calls: calls of a sampler; guidance_factor: images per call for one
    sampled image. macs_per_training_step: of the whole batch, forward and backward. executed_macs_per_call and
    macs_fixed_per_call: what `backend` computes per image, and once per call. None if an external mixer states no MACs.
    """
    m, e, macs, executed = config.model, config.evaluation, forward_macs(config), executed_macs(config)
    calls, factor = e.sampler_steps, 1 if e.guidance == 1 else 2
    s4d = m.kind == "diffussm" and m.mixer == "s4d"
    return {
        "model": model,
        "resolution": resolution,
        "tokens": m.length,
        "parameters": parameters(config),
        "macs_per_call": macs.total,
        "dense_macs": macs.dense,
        "mixer_macs": macs.mixer,
        "backend": backend_for_cost(config.training.backend) if s4d else "",
        "executed_macs_per_call": None if executed is None else executed.per_image,
        "macs_fixed_per_call": None if executed is None else executed.fixed,
        "calls": calls,
        "guidance_factor": factor,
        "macs_per_image": None if macs.total is None else calls * factor * macs.total,
        "batch": config.training.batch,
        "macs_per_training_step": macs.training_step(config.training.batch),
    }


def part_rows(config: Config) -> list[dict[str, Any]]:
    """Return a row for each part of the model, in the order of computation.

    `parameters` and `macs_per_call` are those of all occurrences together, `macs_of_one` those of one.
    """
    return [
        {
            "part": part.name,
            "times": part.times,
            "parameters": part.times * part.parameters,
            "macs_per_call": None if part.macs is None else part.times * part.macs,
            "macs_of_one": part.macs,
        }
        for part in parts(config)
    ]


def block_row(config: Config) -> dict[str, Any]:
    """Return a row for all parts of the blocks together."""
    rows = [row for row in part_rows(config) if row["part"].startswith("block.")]
    sums: dict[str, Any] = {"part": "block (all of it)", "times": config.model.depth}
    for column in ("parameters", "macs_per_call", "macs_of_one"):
        values = [row[column] for row in rows]
        sums[column] = None if None in values else sum(values)
    return sums


def text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows under short headings, with numbers in thousands, millions (M) and so on."""
    return aligned([{_heading(name): _cell(name, value) for name, value in row.items()} for row in rows], LEFT_ALIGNED)


def _heading(name: str) -> str:
    return HEADINGS.get(name, name.replace("_", " "))


def _cell(name: str, value: Any) -> str:
    if isinstance(value, float):  # a residue
        return f"{100 * value:+.4f} %"
    return str(value) if isinstance(value, str) or name in COUNTS else format_count(value)
