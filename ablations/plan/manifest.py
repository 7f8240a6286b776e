"""Writes the manifest of a grid at launch (see `diffussm.store.manifests`).

It lists all arms of the grid, whichever were launched, so that in reports an arm that never ran has a row too. Launches
with the same settings are merged, and their seeds add up.

A report takes the runs of one arm for repetitions of one recipe. So a launch with other settings, or on a base or data
that have changed meanwhile, starts a new manifest, which says nothing of the runs before: they are kept, and are
reported again after a launch with the recipe of before. The user is told. A launch is not refused, because the user may
well mean the new recipe; extending runs is, because runs of another recipe are no longer runs of the old one.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ablations.grid.arms import arms, find_control
from ablations.grid.recipe import recipe
from ablations.grid.schema import GridFile
from ablations.plan.plan import PlannedRun
from diffussm.config import absolute, base_name, is_recipe_file, run_id
from diffussm.store import manifests
from diffussm.store.manifests import Entry, Manifest

_PLACES = {"data.root": ""}  # settings that say where the same content is found


class Difference(NamedTuple):
    """Why runs that were launched before do not belong to the same rows as those of a launch."""

    what: str  # settings, base, data, base or data, grid's file
    reason: str
    are_same_runs: bool = False  # the ids and the keys of its arms are as before: only steps and milestones differ

    @property
    def consequence(self) -> str:
        """Return what the difference means for runs and reports, in a sentence or two."""
        if self.are_same_runs:
            return (
                "The runs are the same and keep what they have done; reports show the steps and seeds that are "
                "requested now."
            )
        return (
            "From now on, reports on this grid show these runs only. Earlier runs are kept; launch with the earlier "
            f"{self.what} to report on them."
        )


def write(
    runs: Path,
    file: Path,
    grid: GridFile,
    base: str,
    settings: Mapping[str, Any],
    planned: list[PlannedRun],
    keep_others: bool = False,
) -> Difference | None:
    """Write the manifest, merged with the newest one; return why it replaces that one, None if it does not.

    With `keep_others`, arms and seeds that are not among `planned` keep their entries, and the settings stay.
    """
    control = find_control(grid, arms(grid)).name if grid.budget == "macs" else None  # whose MACs all match
    now = recipe(base, settings)
    difference: Difference | None = None

    def merged(old: Manifest | None) -> Manifest:
        nonlocal difference
        difference = None if old is None or keep_others else _difference(old, base, settings, planned)
        kept = () if old is None or difference else old.runs
        overrides = {p.run.arm.name: p.run.arm.overrides for p in planned}
        same = [e for e in kept if keep_others or overrides.get(e.arm) == e.overrides]
        entries = {(e.arm, e.seed): e for e in same}
        for p in planned:
            entries[p.run.arm.name, p.run.config.seed] = _entry(p)
        return Manifest(
            grid=file.stem,
            file=str(file.absolute()),
            base=base_name(base),
            base_file=base if is_recipe_file(base) else "",
            claim=grid.claim,
            source=grid.source,
            command=grid.command,
            matched=tuple(grid.matched),
            budget=grid.budget,
            control=control,
            settings=old.settings if old and keep_others else dict(settings),
            base_digest=now.base,
            data_digest=now.data,
            runs=tuple(entries.values()),
        )

    manifests.add(runs, file.stem, base_name(base), merged)
    return difference


def _difference(
    old: Manifest, base: str, settings: Mapping[str, Any], planned: Iterable[PlannedRun]
) -> Difference | None:
    before, now = ({key: absolute(key, value) for key, value in s.items()} for s in (old.settings, settings))
    if before | _PLACES != now | _PLACES:
        difference: Difference | None = Difference("settings", "The settings differ from those of the last launch")
    else:
        difference = recipe_difference(old, base, settings, planned)
        difference = difference or (None if old.states_recipe else _other_steps(old, planned))
    return difference and difference._replace(are_same_runs=_are_same_runs(old, planned))


def _are_same_runs(old: Manifest, planned: Iterable[PlannedRun]) -> bool:
    """Return whether each run of the manifest is a planned one, or one of its arm, and is measured as before."""
    same = list(_same_arms(old, planned))
    return len(same) == len(old.runs) and not any(_changed_id(*one) or _changed_key(*one) for one in same)


def recipe_difference(
    old: Manifest, base: str, settings: Mapping[str, Any], planned: Iterable[PlannedRun]
) -> Difference | None:
    """Return how the base or the data differ from those of the manifest's runs; None if they do not.

    Digests say so; and each run of an arm that is as before must have the same id and the same evaluation key, from
    today's base, as it has in the manifest. For manifests of before, which state no digests, that has to do.
    """
    now = recipe(base, settings)
    if old.base_digest not in ("", now.base):
        change = f"it had digest {old.base_digest} and has {now.base}"
        return Difference("base", f"The base {old.base} has changed since the last launch ({change})")
    if old.data_digest not in ("", now.data):
        change = f"they had digest {old.data_digest} and have {now.data}"
        return Difference("data", f"The data of the base {old.base} have changed since the last launch ({change})")
    for entry, p in _same_arms(old, planned):
        if change := _changed_id(entry, p):
            return Difference("base", f"The base {old.base} has changed since the last launch ({change})")
        if change := _changed_key(entry, p):
            return Difference("base or data", f"Runs are not measured as at the last launch ({change})")
    return None


def _changed_id(entry: Entry, p: PlannedRun) -> str:
    """Return how the id of an entry's run differs from that of today; "" if it does not."""
    today = run_id(p.run.config.model_copy(update={"seed": entry.seed}))
    if today == entry.run_id:
        return ""
    return f"arm {entry.arm!r} with seed {entry.seed} was run {entry.run_id} and is {today}"


def _changed_key(entry: Entry, p: PlannedRun) -> str:
    """Return how the key of an entry's evaluations differs from that of today; "" if it does not."""
    if not p.spec.key or entry.digests.measure_as(p.spec.digests):
        return ""
    return f"arm {entry.arm!r} had evaluation key {entry.key} and has {p.spec.digests.key}"


def extension_difference(
    old: Manifest, base: str, settings: Mapping[str, Any], planned: Iterable[PlannedRun]
) -> Difference | None:
    """Return how runs planned now are no longer those of the manifest, which they would extend; None if they are."""
    planned = list(planned)
    of_arm = {p.run.arm.name: p.run.arm.overrides for p in planned}
    for entry in old.runs:
        if of_arm.get(entry.arm, entry.overrides) != entry.overrides:
            return Difference("grid's file", f"Arm {entry.arm!r} has changed since the last launch")
    return recipe_difference(old, base, settings, planned)


def _other_steps(old: Manifest, planned: Iterable[PlannedRun]) -> Difference | None:
    for entry, p in _same_arms(old, planned):
        if (entry.steps, entry.milestones) != (p.request.steps, p.request.milestones):
            change = f"arm {entry.arm!r} had {entry.steps} steps and has {p.request.steps}"
            return Difference("base", f"Steps or milestones differ from those of the last launch ({change})")
    return None


def _same_arms(old: Manifest, planned: Iterable[PlannedRun]) -> Iterator[tuple[Entry, PlannedRun]]:
    """Yield each entry of the manifest with a planned run of its arm, if the arm is as before."""
    of_arm = {p.run.arm.name: p for p in planned}
    for entry in old.runs:
        if entry.arm in of_arm and of_arm[entry.arm].run.arm.overrides == entry.overrides:
            yield entry, of_arm[entry.arm]


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
