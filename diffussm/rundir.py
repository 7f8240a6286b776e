"""The folder of one run: its paths, whole-file writes, and who owns it. Knows no grids and loads no torch.

config.json                       what the run id digests, plus paths and machine settings; written once
requests/<digest>.json            what is asked of the run; immutable
machine.json                      what the machine decided at the first start; used again on resume
owner-<attempt>.json              one per start; the highest attempt owns the run
provenance-<attempt>.json         commit, packages and hardware of that start
train-<attempt>.jsonl             the loss log of that start
checkpoints/<step>-<attempt>.pt   training state
milestones/<step>/                ema.safetensors, raw.safetensors, and per evaluation key a folder with its record
state.json                        what the owner last said of itself
log.txt                           the workers' output
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diffussm.config import SCHEMA_VERSION, Config, Request, run_id
from diffussm.errors import UserError

_NOT_STORED: Any = {"training": {"steps", "milestones"}, "evaluation": True}


def write_whole(path: Path, content: bytes) -> None:
    """Write under a temporary name, flush to disk, rename: the file is whole or absent; the last writer wins."""
    temporary = _write_temporary(path, content)
    os.replace(temporary, path)


def link_first(path: Path, content: bytes) -> bool:
    """Like `write_whole`, but the first writer wins; False if the file was already there."""
    temporary = _write_temporary(path, content)
    try:
        os.link(temporary, path)
        return True
    except FileExistsError:
        return False
    finally:
        temporary.unlink()


def _write_temporary(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return temporary


class RunDir:
    """Paths and small files of the run folder `path`."""

    def __init__(self, path: Path):
        self.path = path

    @classmethod
    def create(cls, runs: Path, config: Config) -> "RunDir":
        """The folder of the config's run below `runs`, made if it is not there."""
        run = cls(runs / run_id(config))
        stored = {"schema": SCHEMA_VERSION, "config": config.model_dump(mode="json", exclude=_NOT_STORED)}
        link_first(run.path / "config.json", _json(stored))
        return run

    @property
    def run_id(self) -> str:
        return self.path.name

    def config(self) -> Config:
        """The run's config; steps, milestones and evaluation are those of its requests, not of this."""
        path = self.path / "config.json"
        try:
            stored = json.loads(path.read_text())
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(f"{self.path}: not a run folder (no config.json)") from None
        if stored["schema"] != SCHEMA_VERSION:
            raise UserError(f"{path}: made with config schema {stored['schema']}, this is {SCHEMA_VERSION}")
        config = Config.model_validate_json(json.dumps(stored["config"]))
        if run_id(config) != self.run_id:
            raise UserError(f"{path}: describes run {run_id(config)}, not the folder it lies in")
        return config

    def add_request(self, request: Request) -> None:
        link_first(self.path / "requests" / f"{request.digest}.json", request.model_dump_json(indent=1).encode())

    def requests(self) -> list[Request]:
        paths = sorted((self.path / "requests").glob("[!.]*.json"))
        return [Request.model_validate_json(path.read_bytes()) for path in paths]

    def latest_request(self) -> Request:
        """What was asked last; UserError if nothing ever was."""
        paths = sorted((self.path / "requests").glob("[!.]*.json"), key=lambda path: path.stat().st_mtime)
        if not paths:
            raise UserError(f"{self.path}: nothing was asked of this run")
        return Request.model_validate_json(paths[-1].read_bytes())

    def claim(self) -> int:
        """Take the run over: the number of the new attempt, from 1."""
        while True:
            attempt = self.owner() + 1
            if link_first(
                self.path / f"owner-{attempt}.json", _json({"host": os.uname().nodename, "pid": os.getpid()})
            ):
                return attempt

    def owner(self) -> int:
        """The attempt that owns the run; 0 if none ever did."""
        return max((int(path.stem.removeprefix("owner-")) for path in self.path.glob("owner-*.json")), default=0)

    def machine(self, proposed: dict[str, Any]) -> dict[str, Any]:
        """What the machine decided at the run's first start; `proposed` if this is it."""
        path = self.path / "machine.json"
        link_first(path, _json(proposed))
        return json.loads(path.read_text())

    def write_state(self, state: dict[str, Any]) -> None:
        write_whole(self.path / "state.json", _json(state))

    def state(self) -> dict[str, Any]:
        """What the owner last said; empty if none ever started."""
        try:
            return json.loads((self.path / "state.json").read_text())
        except FileNotFoundError:
            return {}

    def write_provenance(self, attempt: int, provenance: dict[str, Any]) -> None:
        write_whole(self.path / f"provenance-{attempt}.json", _json(provenance))

    def checkpoint(self, step: int, attempt: int) -> Path:
        return self.path / "checkpoints" / f"{step:09d}-{attempt}.pt"

    def checkpoints(self) -> list[Path]:
        """All whole checkpoints, the newest first."""
        return sorted((self.path / "checkpoints").glob("[0-9]*.pt"), key=_step_and_attempt, reverse=True)

    def trained_steps(self) -> int:
        """Steps of the newest checkpoint; 0 without one."""
        newest = self.checkpoints()[:1]
        return _step_and_attempt(newest[0])[0] if newest else 0

    def milestone(self, step: int) -> Path:
        return self.path / "milestones" / str(step)

    def weights(self, step: int, kind: str) -> Path:
        """The kept weights (ema | raw) of a milestone."""
        return self.milestone(step) / f"{kind}.safetensors"

    def kept_milestones(self, kind: str) -> list[int]:
        """Steps whose weights (ema | raw) are kept, in order."""
        return sorted(int(path.parent.name) for path in (self.path / "milestones").glob(f"*/{kind}.safetensors"))

    def lost_milestones(self, request: Request) -> list[int]:
        """Milestones that training has passed without keeping the weights that the request evaluates."""
        trained, kind = self.trained_steps(), request.evaluation.weights
        return [step for step in request.milestones if step <= trained and not self.weights(step, kind).exists()]

    def record(self, step: int, key_digest: str) -> Path:
        return self.milestone(step) / key_digest / "record.json"

    def log(self, attempt: int) -> Path:
        return self.path / f"train-{attempt}.jsonl"

    def loss_rows(self) -> list[dict[str, float]]:
        """The loss log by step: where attempts overlap the last one's row, torn lines left out."""
        rows: dict[float, dict[str, float]] = {}
        logs = sorted(self.path.glob("train-*.jsonl"), key=lambda path: int(path.stem.removeprefix("train-")))
        for path in logs:
            for row in _whole_rows(path):
                rows[row["step"]] = row
        return [rows[step] for step in sorted(rows)]

    def remove_temporaries(self) -> None:
        """Delete what a killed owner left half-written."""
        for folder in ("checkpoints", "milestones"):
            for path in (self.path / folder).rglob(".*.tmp"):
                path.unlink(missing_ok=True)


def _whole_rows(path: Path) -> Iterator[dict[str, float]]:
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            yield json.loads(line)


def _step_and_attempt(path: Path) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)-(\d+)", path.stem)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _json(content: Any) -> bytes:
    return json.dumps(content, indent=1, allow_nan=False).encode()
