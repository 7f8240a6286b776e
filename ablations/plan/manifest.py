"""Writes the manifest of a grid at launch (see `diffussm.store.manifests`).

It lists all arms of the grid, whichever were launched, so that in reports an arm that never ran has a row too. Launches
with the same settings are merged, and their seeds add up; a launch with other settings starts a new manifest.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablations.grid.arms import arms, find_control
from ablations.grid.schema import GridFile
from ablations.plan.plan import PlannedRun
from diffussm.store import manifests
from diffussm.store.manifests import Entry, Manifest


def write(
    runs: Path,
    file: Path,
    grid: GridFile,
    base: str,
    settings: Mapping[str, Any],
    planned: list[PlannedRun],
    keep_others: bool = False,
) -> bool:
    """Write the manifest, merged with the newest one; returns whether it replaces one with other settings.

    With `keep_others`, arms and seeds that are not among `planned` keep their entries, and the settings stay.
    """
    control = find_control(grid, arms(grid)).name if grid.budget == "macs" else None  # whose MACs all match
    replaces = False

    def merged(old: Manifest | None) -> Manifest:
        nonlocal replaces
        replaces = old is not None and old.settings != dict(settings) and not keep_others
        kept = () if old is None or replaces else old.runs
        overrides = {p.run.arm.name: p.run.arm.overrides for p in planned}
        same = [e for e in kept if keep_others or overrides.get(e.arm) == e.overrides]
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
            settings=old.settings if old and keep_others else dict(settings),
            runs=tuple(entries.values()),
        )

    manifests.add(runs, file.stem, base, merged)
    return replaces


def _entry(p: PlannedRun) -> Entry:
    digests = p.spec.digests
    return Entry(
        arm=p.run.arm.name,
        levels=dict(p.run.arm.levels),
        overrides=dict(p.run.arm.overrides),
        seed=p.run.config.seed,
        run_id=p.run.run_id,
        request=p.request.digest,
        steps=p.request.steps,
        milestones=p.request.milestones,
        key=digests.key,
        key_content=digests.content,
        parameters=p.spec.parameters,
        macs_per_call=p.spec.macs.total,
        macs_per_step=p.macs_per_step,
        resources=p.run.arm.resources.model_dump(exclude_none=True),
    )
