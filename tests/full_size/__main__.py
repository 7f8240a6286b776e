"""A training step of DiffuSSM-XL and of DiT-XL/2 on a CPU, a checkpoint beside the next step, a kill, and the second
step once more from the checkpoint: equal to the bit. Peak memory, waits and stalls are compared with what they may be.

    python -m tests.full_size [--model NAME] [--depth N] [--folder DIR]

Exits with 1 if something is not as it must be, and with 2 if the machine has not the memory or the disk.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.full_size import shared

GB = 10**9
MEMORY, DISK = 24, 40  # GB, of a machine for all of it
TOLERANCE = 0.1  # of the peak
DD_SHARE = 0.8  # of the speed of dd conv=fsync
COPIES = 1.5  # of a bare copy's time
HOST_MEMORY = 1.1  # of the state
BARE = 0.6 * GB  # of Python and its libraries
ROOT = Path(__file__).parents[2]


class Failed(Exception):
    """A process did not end as it must."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=[*shared.MODELS, "stall"], help="default: all")
    parser.add_argument("--depth", type=int, default=0, help="layers, in place of all; needs less memory")
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to write to (default: a temporary one)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="full-size-", dir=options.folder))
    models = options.model or [*shared.MODELS, "stall"]
    needs = f"{MEMORY} GB of memory, {DISK} GB of disk in {folder}, and a machine that does nothing else"
    print(f"needs {needs}; takes ten minutes or more", flush=True)
    try:
        if problem := _problem(folder, models, options.depth):
            print(problem, file=sys.stderr)
            return 2
        checks = [check for model in models for check in _checks(folder, model, options.depth)]
        return 0 if all(checks) else 1
    finally:
        shutil.rmtree(folder)


def _problem(folder: Path, models: list[str], depth: int) -> str:
    """Return what the machine lacks for the models."""
    from diffussm.cost.memory.account import account

    needed, room = 9.0 * GB, 0.0
    for model in models:
        if model in shared.MODELS:
            found = account(shared.config_of(folder, model, depth), device="cpu")
            assert found
            needed = max(needed, found.peak * (1 + TOLERANCE) + BARE)
            room = max(room, 3.3 * sum(row.total for row in found.state))
    if (available := shared.available_bytes()) < needed:
        return f"memory: {available / GB:.1f} GB are available, {needed / GB:.1f} GB are needed"
    if (free := shared.free_bytes(folder)) < room:
        return f"{folder}: {free / GB:.1f} GB are free, {room / GB:.1f} GB are needed"
    return ""


def _checks(folder: Path, model: str, depth: int) -> list[bool]:
    work = folder / model.replace("/", "-")
    work.mkdir()
    try:
        return _stall(work) if model == "stall" else _training(work, model, depth)
    except Failed as failed:
        return [_check(f"{model}: {failed}", False)]
    finally:
        shutil.rmtree(work)


def _training(folder: Path, model: str, depth: int) -> list[bool]:
    arguments = (str(folder), model, str(depth))
    first = _run("training", *arguments, ends=-signal.SIGKILL)
    written = sum(path.stat().st_size for path in folder.rglob("*") if path.suffix in (".pt", ".safetensors"))
    dd = shared.dd_seconds(folder, written)
    again = _run("training", *arguments, ends=-signal.SIGKILL)
    name = f"{model}, {depth} layers" if depth else model
    print(
        f"{name}: {first['backend']}, steps of {first['steps'][0]:.0f} s and, beside writing, {first['steps'][1]:.0f} s"
    )
    writing, wait = sum(first["writings"]), max(first["waits"])
    allowed = dd / DD_SHARE
    off = first["peak"] / first["account"] - 1
    return [
        _check("resumed after step 1", (first["resumed_at"], again["resumed_at"]) == (0, 1)),
        _check("the second step is equal to the bit", first["digest"] == again["digest"]),
        _check(
            f"peak memory {first['peak'] / GB:.2f} GB, by account {first['account'] / GB:.2f} GB ({off:+.1%})",
            abs(off) <= TOLERANCE,
        ),
        _check(
            f"{written / GB:.2f} GB written in {writing:.1f} s, for which the update waited {wait:.1f} s; "
            f"dd conv=fsync: {dd:.1f} s",
            wait <= allowed,
        ),
    ]


def _stall(folder: Path) -> list[bool]:
    found = _run("stall", str(folder), ends=0)
    size, stall, copy, writing, dd = (found[name] for name in ("size", "stall", "copy", "writing", "dd"))
    return [
        _check(
            f"a staged state of {size / GB:.2f} GB holds the training up for {stall:.2f} s, {stall / copy:.2f} times a "
            f"bare copy of {copy:.2f} s",
            stall <= COPIES * copy,
        ),
        _check(
            f"host memory {found['reserved'] / GB:.2f} GB, {found['reserved'] / size:.2f} times the state",
            found["reserved"] <= HOST_MEMORY * size,
        ),
        _check(
            f"written in {writing:.1f} s; dd conv=fsync: {dd:.1f} s, {dd / writing:.2f} of its speed",
            dd / writing >= DD_SHARE,
        ),
    ]


def _run(what: str, *arguments: str, ends: int) -> dict[str, Any]:
    """Return what a process reported, which must end with this exit code."""
    command = [sys.executable, "-m", f"tests.full_size.{what}", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != ends or not done.stdout:
        raise Failed(f"a process ended with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _check(what: str, is_right: bool) -> bool:
    print(f"{'ok' if is_right else 'WRONG'}: {what}", flush=True)
    return is_right


if __name__ == "__main__":
    sys.exit(main())
