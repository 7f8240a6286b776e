"""One file of a run damaged in one way, and what the next launch of its grid makes of it."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ablations import launch
from diffussm.errors import UserError
from diffussm.store.rundir import RunDir
from tests.support import damage

# Kind of file -> glob below the run's folder; the last match is damaged.
FILES = {
    "config": "config.json",
    "request": "requests/*.json",
    "order of requests": "asked/1.json",
    "execution settings": "machine.json",
    "owner": "owner-1.json",
    "state": "state.json",
    "provenance": "provenance-1.json",
    "output": "log-1.txt",
    "loss log": "train-1.jsonl",
    "newest checkpoint": "checkpoints/*.pt",
    "weights, measured": "milestones/16/ema.safetensors",
    "weights to measure": "milestones/16/ema.safetensors",
    "record": "milestones/16/*/record.json",
    "samples": "milestones/16/*/samples.npz",
    "evaluation's owner": "milestones/16/*/owner-1.json",
    "evaluation's state": "milestones/16/*/state.json",
}


def _cut(path: Path, other: Path) -> None:
    damage.cut(path, path.stat().st_size // 2)


def _zeros(path: Path, other: Path) -> None:
    size = path.stat().st_size
    damage.zero(path, size // 4, min(4096, size // 2))


def _one_bit(path: Path, other: Path) -> None:
    damage.flip(path, 8 * (path.stat().st_size * 2 // 3) + 2)


def _another_version(path: Path, other: Path) -> None:
    """State a later version where the kind of file states one, and otherwise have a field of a later version."""
    if path.suffix == ".json":
        content = json.loads(path.read_bytes())
        path.write_text(json.dumps({**content, "schema" if "schema" in content else "version": 99}))
    else:
        content, count = re.subn(rb'(format_version": ?")2', rb"\g<1>9", path.read_bytes())
        assert count == 1 or path.suffix not in (".pt", ".safetensors")
        path.write_bytes(content)


def _no_permission(path: Path, other: Path) -> None:
    path.chmod(0)


def _another_run_s(path: Path, other: Path) -> None:
    shutil.copyfile(other, path)


def _shaped(how: str) -> Callable[[Path, Path], None]:
    return lambda path, _other: damage.corrupt(path, how)


def _deleted(path: Path, other: Path) -> None:
    path.unlink()


WAYS: dict[str, Callable[[Path, Path], None]] = {
    "cut": _cut,
    "zeros": _zeros,
    "one bit": _one_bit,
    "another run's": _another_run_s,
    "empty": _shaped("empty"),
    "a folder": _shaped("a folder"),
    "a pipe": _shaped("a named pipe"),
    "deleted": _deleted,
    "no permission": _no_permission,
    "another version": _another_version,
}


def damaged(kind: str, way: str, run: RunDir, other: RunDir) -> Path:
    """Damage a file of the run in a way, or put the same file of the `other` run in its place; return its path."""
    path = sorted(run.path.glob(FILES[kind]))[-1]
    if kind == "weights to measure":
        for record in run.path.glob("milestones/16/*/record.json"):
            record.unlink()
    WAYS[way](path, sorted(other.path.glob(FILES[kind]))[-1])
    return path


def relaunch(arguments: list[str], run: RunDir, path: Path) -> str:
    """Launch again, in this process, after the file at `path` was damaged; return what became of it.

    done: as if nothing had happened. set aside: so, and what is damaged is kept under another name. refused: one line
    names the file or what it should give, and a further launch refuses it too. made again: a further launch does not,
    as the debug executor ends a launch at its first failure.
    """
    if _refuses(arguments, run):
        return "refused" if _refuses(arguments, run) else "made again"
    aside = [found for found in run.path.rglob("*.damaged*") if found.name.startswith(path.name)]
    return "set aside" if aside else "done"


def _refuses(arguments: list[str], run: RunDir) -> bool:
    """Launch; return whether that ended with a line that names the run."""
    try:
        assert launch.main([*arguments, "--executor", "debug"]) == 0
        return False
    except UserError as error:
        message = str(error)
    assert "\n" not in message
    assert run.run_id in message
    return True


def metrics(run: RunDir) -> dict[str, Any]:
    """Return the metrics of the run's records by step."""
    paths = sorted(run.path.glob("milestones/*/*/record.json"))
    return {path.parent.parent.name: json.loads(path.read_bytes())["metrics"] for path in paths}
