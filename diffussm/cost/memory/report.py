"""The memory account as rows, as text and for JSON. No torch."""

from collections.abc import Sequence
from typing import Any

from diffussm.cost import tables
from diffussm.cost.memory.account import Account, Row, total
from diffussm.cost.memory.fit import Choice, Fit

LEGEND = """\
Memory: bytes of one GPU in a training step. A part is what autograd keeps of a layer: its input and its output, and in
bf16 a copy of its weights. With several GPUs gradients are averaged in buckets, and made there unless a batch is
computed in micro-batches. A GPU of 80 GB has 85.9 in fact, of which CUDA and communication take some."""


def rows(account: Account) -> list[dict[str, Any]]:
    """Return a row for each part; `bytes` are those of all occurrences together, `bytes_of_one` those of one."""
    return [
        {"part": row.part, "times": row.times, "bytes_of_one": row.bytes, "bytes": row.total} for row in account.rows
    ]


def text(title: str, fit: Fit) -> str:
    """Return the sentence of the fit, and the table of its account below."""
    sentence = f"{title}, memory: {fit}."
    if fit.account is None:
        return sentence
    kept = fit.account.activations
    sums = {
        "block (all of it)": in_blocks(kept),
        "activations (all of them)": total(kept),
        "at the peak": fit.account.peak,
    }
    shown = [{"part": part, "times": "", "bytes_of_one": "", "bytes": size} for part, size in sums.items()]
    return f"{sentence}\n{tables.text([*rows(fit.account), *shown])}"


def in_blocks(parts: Sequence[Row]) -> int:
    """Return the bytes of all parts of blocks."""
    return total([row for row in parts if row.part.startswith("block")])


def as_json(fit: Fit) -> dict[str, Any] | None:
    """Return the account for JSON; None if an external mixer does not say what it keeps."""
    if fit.account is None:
        return None
    return {
        "gpus": fit.gpus,
        "gpu_memory_gb": fit.memory_gb,
        **_choice(fit.account),
        "fits": fit.fits,
        "alternatives": [_alternative(choice) for choice in fit.alternatives],
        "parts": rows(fit.account),
    }


def _choice(account: Account) -> dict[str, Any]:
    return {"images": account.images, "micro_batches": account.micro_batches, "peak_bytes": account.peak}


def _alternative(choice: Choice) -> dict[str, Any]:
    return {"micro_batch": choice.micro_batch, "checkpointing": choice.checkpointing, "peak_bytes": choice.account.peak}
