"""`diffussm cost`: a report as text or as JSON."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from diffussm.config import Config
from diffussm.cost import tables
from diffussm.cost.memory import report as memory
from diffussm.cost.memory.fit import Fit
from diffussm.cost.named import NAMED, configs
from diffussm.data.lookup.resolution import resolve_with_data
from diffussm.errors import UserError
from diffussm.tables import plural


class Gpus(NamedTuple):
    """The GPUs that share a batch; by default those of the profile `a100`."""

    number: int = 8
    memory_gb: float = 80


def report(
    models: Sequence[str],
    resolutions: tuple[str, ...],
    settings: Mapping[str, Any],
    per_block: bool,
    audited: bool,
    as_json: bool,
    gpus: Gpus | None = None,
    kernels_at: int | None = None,
) -> str:
    """Return the costs of `models`, or of all named models; `settings` are dotted keys of the config.

    With `gpus` the memory of training on them is part of the report, and with `kernels_at` what a GPU runs for a block
    on that many images.
    """
    cases = [
        (model, resolution, config)
        for model in models or NAMED
        for resolution, config in configs(model, resolutions, settings, resolve_with_data).items()
    ]
    rows = [tables.cost(*case) for case in cases]
    if kernels_at:
        from diffussm.cost import kernels  # imports torch
    if as_json:
        for row, (_, _, config) in zip(rows, cases, strict=True):
            row |= {"parts": tables.part_rows(config), "block": tables.block_row(config)} if per_block else {}
            row |= {"audit": audit_row(config)} if audited else {}
            row |= {"memory": memory.as_json(Fit(config, *gpus))} if gpus else {}
            row |= {"kernels": kernels.rows(config, kernels_at)} if kernels_at else {}
        return json.dumps(rows, indent=1)
    out = [tables.text(rows), "", tables.LEGEND]
    for model, resolution, config in cases if per_block else []:
        out += ["", f"{model} at {resolution}", tables.text([*tables.part_rows(config), tables.block_row(config)])]
    if gpus:
        out += ["", memory.LEGEND]
        for model, resolution, config in cases:
            out += ["", memory.text(f"{model} at {resolution}", Fit(config, *gpus))]
    if kernels_at:
        out += ["", kernels.LEGEND]
        for model, resolution, config in cases:
            title = f"{model} at {resolution}, {plural(kernels_at, 'image')}"
            out += ["", title, tables.text(kernels.rows(config, kernels_at))]
    if audited:
        out += ["", tables.text([{"model": m, "resolution": r, **audit_row(c)} for m, r, c in cases])]
    return "\n".join(out)


def audit_row(config: Config) -> dict[str, Any]:
    """Return the three counts, and their differences from the closed form as a share of it."""
    from diffussm.cost.audit import audit
    from diffussm.cost.counted import Uncounted

    try:
        return audit(config).as_row()
    except Uncounted as error:  # raised for some external mixers
        raise UserError(f"--audit: {error}") from None
