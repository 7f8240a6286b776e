"""What `diffussm cost` prints: text for people, JSON for programs."""

import json
from collections.abc import Sequence
from typing import Any

from diffussm.config import Config, parse_settings
from diffussm.cost import tables
from diffussm.cost.named import NAMED, configs
from diffussm.errors import UserError


def report(
    models: Sequence[str],
    resolutions: tuple[str, ...],
    settings: Sequence[str],
    per_block: bool,
    audited: bool,
    as_json: bool,
) -> str:
    """Of `models`, or of all named ones; `settings` are section.field=value."""
    overrides = parse_settings(settings)
    made = [
        (model, resolution, config)
        for model in models or NAMED
        for resolution, config in configs(model, resolutions, overrides).items()
    ]
    rows = [tables.cost(*one) for one in made]
    if as_json:
        for row, (_, _, config) in zip(rows, made, strict=True):
            row |= {"parts": tables.part_rows(config), "block": tables.block_row(config)} if per_block else {}
            row |= {"audit": audit_row(config)} if audited else {}
        return json.dumps(rows, indent=1)
    out = [tables.text(rows), "", tables.LEGEND]
    for model, resolution, config in made if per_block else []:
        out += ["", f"{model} at {resolution}", tables.text([*tables.part_rows(config), tables.block_row(config)])]
    if audited:
        out += ["", tables.text([{"model": m, "resolution": r, **audit_row(c)} for m, r, c in made])]
    return "\n".join(out)


def audit_row(config: Config) -> dict[str, Any]:
    """The three counts, and by how much they differ where both see the same, as a share of the closed form."""
    from diffussm.cost.audit import audit
    from diffussm.cost.counted import Uncounted

    try:
        done = audit(config)
    except Uncounted as error:  # what a mixer from outside does
        raise UserError(f"--audit: {error}") from None
    return {**done._asdict(), "residue_fvcore": done.residue_fvcore, "residue_torch": done.residue_torch}
