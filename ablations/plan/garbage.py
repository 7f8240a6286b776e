"""Finds files among the run folders that no run needs any more."""

import shutil
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablations.plan import snapshot
from ablations.plan.named_code import code_of_results
from ablations.status.overview import Row
from diffussm.errors import UserError
from diffussm.run.heartbeat import Liveness
from diffussm.run.tasks import milestones_without_weights, replayable_milestones
from diffussm.store import manifests
from diffussm.store.integrity.files import verify_file
from diffussm.store.names import check_inside
from diffussm.store.rundir import RunDir, is_run_folder, step_of


@dataclass(frozen=True)
class Garbage:
    """A file or folder that no run needs: `what` describes it."""

    path: Path
    what: str
    size: int  # bytes
    is_code: bool = False  # a copy of the code, which is read-only

    def delete(self) -> None:
        if self.path.is_file() or self.path.is_symlink():
            self.path.unlink(missing_ok=True)
        elif self.is_code:
            snapshot.remove(self.path)
        else:
            shutil.rmtree(self.path)


def find(
    runs: Path,
    rows: Sequence[Row],
    unlisted: bool,
    code_in_use: Collection[str] | None,
    on_damage: Callable[[str], None],
) -> list[Garbage]:
    """Find half-written files, checkpoints before the newest and checkpoints of finished replays in the runs of `rows`
    that nobody works on.

    With `unlisted`, also run folders that no manifest names. With `code_in_use`, the digests of the code that submitted
    jobs run, also copies of the code that neither these jobs nor any launch uses, nor any result names.

    Where a damaged file leaves open whether something is in use, it is kept, and `on_damage` is called with the error.
    """
    liveness = Liveness(by_mtime=True)
    selected = {row.run.path: row.run for row in rows}
    idle = [run for run in selected.values() if not _is_worked_on(run, liveness, on_damage)]
    found = [Garbage(path, what, path.lstat().st_size) for run in idle for path, what in _in_run(run, on_damage)]
    if unlisted:
        listed = {
            runs / entry.run_id for manifest in manifests.read_undamaged(runs, None, None) for entry in manifest.runs
        }
        for config in sorted(runs.glob("*/config.json")):
            run = RunDir(config.parent)
            if is_run_folder(run.path) and run.path not in listed and not _is_worked_on(run, liveness, on_damage):
                found.append(Garbage(run.path, "run of no launched grid", _size(run.path)))
    if code_in_use is not None and (named := code_of_results(runs, on_damage)) is not None:
        unused = snapshot.unused(runs, {*code_in_use, *named}, on_damage)
        what = "code that no launch uses and no result names"
        found += [Garbage(path, what, _size(path), is_code=True) for path in unused]
    return [garbage for garbage in found if _is_inside(runs, garbage.path, on_damage)]


def _is_inside(runs: Path, path: Path, on_damage: Callable[[str], None]) -> bool:
    """Return whether the path lies in the folder of the runs; one that a link leads out of it is not deleted."""
    try:
        check_inside(runs, path)
    except UserError as problem:
        on_damage(str(problem))
        return False
    return True


def _in_run(run: RunDir, on_damage: Callable[[str], None]) -> Iterator[tuple[Path, str]]:
    for path in sorted(run.path.rglob(".*.tmp")):
        yield path, "half-written file"
    for path in _superseded_checkpoints(run, on_damage):
        yield path, "checkpoint before the newest"
    if not _may_replay(run, on_damage):
        for path in run.replay.checkpoints():
            yield path, "checkpoint of a replay"


def _superseded_checkpoints(run: RunDir, on_damage: Callable[[str], None]) -> list[Path]:
    """Return the checkpoints before the newest one that is intact, except those from which lost weights of their step
    can be restored."""
    older = run.checkpoints()
    while len(older) > 1:
        newest = older.pop(0)
        if (damage := _damage(newest, run.run_id)) is None:
            break
        on_damage(damage)
    else:
        return []
    try:
        lost = milestones_without_weights(run)
    except UserError as damaged_request:
        on_damage(str(damaged_request))
        return []
    return [path for path in older if step_of(path) not in lost]


def _damage(checkpoint: Path, run_id: str) -> str | None:
    """Return why a checkpoint is damaged; None if it is intact. One of an earlier version has the checksums of its
    archive alone."""
    try:
        stamp = verify_file(checkpoint).stamp
        if stamp:
            stamp.check_place(checkpoint, run_id, step_of(checkpoint), stamp.kind)
            return None
        with zipfile.ZipFile(checkpoint) as archive:
            bad = archive.testzip()
        return bad and f"{checkpoint}: is damaged: the checksum of {bad} is wrong"
    except UserError as damage:
        return str(damage)
    except (OSError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        return f"{checkpoint}: is damaged: {error}"


def _may_replay(run: RunDir, on_damage: Callable[[str], None]) -> bool:
    """Return whether a replay is to be begun or resumed, or a damaged file leaves that open."""
    try:
        return bool(replayable_milestones(run, run.requests()))
    except UserError as damage:
        on_damage(str(damage))
        return True


def _is_worked_on(run: RunDir, liveness: Liveness, on_damage: Callable[[str], None]) -> bool:
    """Return whether somebody works on the run, or a damaged file leaves that open."""
    try:
        return any(liveness.is_alive(folder) for folder in (run, *run.evaluations()))
    except UserError as damage:
        on_damage(str(damage))
        return True


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
