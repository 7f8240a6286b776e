"""What a grid asked for, written at launch (see `diffussm.store.manifests`).

Reports read it, so that an arm which never ran is a row too: it holds all arms of the grid, whichever were launched.
Launches with the same settings merge (seeds add up); one with other settings starts the manifest anew.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablations.grid.arms import arms, find_control
from ablations.grid.schema import GridFile
from ablations.plan.plan import Planned
from diffussm.store import manifests
from diffussm.store.manifests import Entry, Manifest


def write(
    runs: Path,
    file: Path,
    grid: GridFile,
    base: str,
    settings: Mapping[str, Any],
    planned: list[Planned],
    others_stay: bool = False,
) -> bool:
    """Write or merge the manifest; True if it replaces one that was made with other settings.

    With `others_stay`, arms and seeds that are not among `planned` stay as they were asked before, and so do the
    settings.
    """
    control = find_control(grid, arms(grid)).name if grid.budget == "macs" else None  # whose steps count for all
    replaces = False

    def merged(old: Manifest | None) -> Manifest:
        nonlocal replaces
        replaces = old is not None and old.settings != dict(settings) and not others_stay
        kept = () if old is None or replaces else old.runs
        overrides = {p.run.arm.name: p.run.arm.overrides for p in planned}
        same = [e for e in kept if others_stay or overrides.get(e.arm) == e.overrides]
        entries = {(e.arm, e.seed): e for e in same}
        for p in planned:
            entries[p.run.arm.name, p.run.config.seed] = _entry(p)
        return Manifest(
            grid=file.stem,
            file=str(file.absolute()),
            base=base,
            claim=grid.claim,
            source=grid.source,
            command=grid.command,
            matched=tuple(grid.matched),
            budget=grid.budget,
            control=control,
            settings=old.settings if old and others_stay else dict(settings),
            runs=tuple(entries.values()),
        )

    manifests.add(runs, file.stem, base, merged)
    return replaces


def _entry(p: Planned) -> Entry:
    assert p.arm.key is not None  # nothing is launched that lacks data
    return Entry(
        arm=p.run.arm.name,
        levels=dict(p.run.arm.levels),
        overrides=dict(p.run.arm.overrides),
        seed=p.run.config.seed,
        run_id=p.run.run_id,
        request=p.request.digest,
        steps=p.request.steps,
        milestones=p.request.milestones,
        key=p.arm.key.digest,
        parameters=p.arm.parameters,
        macs_per_call=p.arm.macs.total,
        macs_per_step=p.macs_per_step,
        resources=p.run.arm.resources.model_dump(exclude_none=True),
    )
