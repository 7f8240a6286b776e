"""Checkpoints of a run: written with a stamp, verified when they are read, and set aside if they are damaged."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from diffussm.models.stored import NOT_VERIFIABLE, read_state, write_state, write_weights
from diffussm.store.integrity.set_aside import set_aside
from diffussm.store.integrity.stamp import DamagedFile, Stamp
from diffussm.store.rundir import RunDir, step_of

KIND = "state"
PARTS = {"step", "model", "ema", "optimiser"}


def write(run: RunDir, step: int, attempt: int, content: Mapping[str, Any]) -> None:
    """Write the state at `step` as a checkpoint of the attempt."""
    write_state(run.checkpoint(step, attempt), content, Stamp(run_id=run.run_id, step=step, kind=KIND))


def read(path: Path, run_id: str) -> dict[str, Any]:
    """Return the state in a checkpoint of a run; raise DamagedFile if it is damaged, or of another run or step."""
    try:
        content, origin = read_state(path)
    except DamagedFile as damage:
        raise DamagedFile(
            path, f"not a training checkpoint: {damage.what}" if damage.__cause__ else damage.what
        ) from None
    if not isinstance(content, dict) or not content.keys() >= PARTS:
        raise DamagedFile(path, "not a training checkpoint")
    step = step_of(path) or content["step"]
    if origin.stamp:
        origin.stamp.check_place(path, run_id, step, KIND)
    if content["step"] != step:
        raise DamagedFile(path, f"holds the state of step {content['step']}, but its place is that of step {step}")
    if origin.stamp is None:
        print(f"{path}: {NOT_VERIFIABLE}", file=sys.stderr, flush=True)
    return content


def newest_intact(run: RunDir) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest checkpoint that is not damaged and its content; None if there is none.

    Newer ones are set aside, and both are said on stderr.
    """
    damages: list[str] = []
    found = None
    for path in run.checkpoints():
        try:
            found = path, read(path, run.run_id)
            break
        except DamagedFile as damage:
            damages.append(f"{damage}; set aside as {set_aside(path).name}")
    for message in damages:
        print(message, file=sys.stderr)
    if damages:
        where = f"checkpoint {found[0].name}" if found else "step 0, because no other checkpoint is left"
        print(f"{run.path}: the training continues from {where}", file=sys.stderr, flush=True)
    return found


def weights_in(content: Mapping[str, Any], kind: str) -> dict[str, Tensor]:
    """Return the weights (ema | raw) in a checkpoint's content, buffers too."""
    return content["model"] | (content["ema"] if kind == "ema" else {})


def restore_milestones(run: RunDir, lost: Mapping[int, set[str]]) -> None:
    """Write lost weights (step -> kinds) anew where a checkpoint of that very step is kept, and say so on stderr. Such
    a checkpoint that is damaged is set aside."""
    for path in run.checkpoints():
        step = step_of(path)
        kinds = [kind for kind in sorted(lost.get(step, ())) if not run.weights(step, kind).exists()]
        if not kinds:
            continue
        try:
            content = read(path, run.run_id)
        except DamagedFile as damage:
            print(f"{damage}; set aside as {set_aside(path).name}", file=sys.stderr, flush=True)
            continue
        for kind in kinds:
            target = run.weights(step, kind)
            write_weights(target, weights_in(content, kind), Stamp(run_id=run.run_id, step=step, kind=kind))
            print(f"{target}: made again from checkpoint {path.name}", file=sys.stderr, flush=True)
