"""The folder of one run: its paths, and what is requested of it. Knows no grids and loads no torch.

config.json                       what the run id digests, plus paths and machine settings; only paths change
requests/<digest>.json            what is requested of the run; immutable
asked/<n>.json                    which request was asked for; the last one is the latest request
replays/<digest>.json             that request may get its lost milestones by a replay of the training
orders/<n>.json                   cancel or retry; the last one is in force
machine.json                      the execution settings, chosen at the first start and reused by later ones
settings/<n>.json, settings-<attempt>.json    changes of some of them, as ordered and as they took effect
owner-<attempt>.json, state.json, failure-<attempt>.json, log-<attempt>.txt     of the training (see `workdir`)
provenance-<attempt>.json         code, packages and hardware of that attempt
train-<attempt>.jsonl             the loss log of that attempt
checkpoints/<step>-<attempt>.pt   training state
milestones/<step>/                ema.safetensors, raw.safetensors
milestones/<step>/<key>/          an evaluation: record.json, samples, and owner, state and log of its own
<name>.damaged                    what was in the place of a checkpoint, of weights or of a record, and set aside
"""

import json
import math
import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field, ValidationError

from diffussm.config import SCHEMA_VERSION, Config, Request, run_id
from diffussm.errors import UserError
from diffussm.store.execution import Execution
from diffussm.store.integrity.set_aside import was_set_aside
from diffussm.store.names import child
from diffussm.store.orders import Asked, NumberedFiles, Order, read_request
from diffussm.store.reading import StoredModel, damaged, describe_damage, read_json_lines, read_model
from diffussm.store.workdir import WorkDir
from diffussm.store.writing import to_json, write_atomically, write_once

_NOT_STORED: Any = {"training": {"steps", "milestones"}, "evaluation": True}
_FORMER_FIELDS = {"data": ({"root", "transform"}, "digest"), "diffusion": ({"schedule"}, "")}


class StoredConfig(StoredModel):
    """The run's config in the schema of a version."""

    model_config = ConfigDict(populate_by_name=True)

    repair: ClassVar[str] = "restore it, or delete it and launch the run again"

    version: int = Field(alias="schema")
    config: dict[str, Any]


class RunDir(WorkDir):
    """Paths and small files of the run folder `path`.

    `mode` is "train" for the training itself and "replay" for a repetition of it, whose checkpoints and loss log are
    stored separately.
    """

    def __init__(self, path: Path, mode: Literal["train", "replay"] = "train"):
        super().__init__(path)
        self.mode = mode

    @classmethod
    def create(cls, runs: Path, config: Config) -> "RunDir":
        """Return the folder of the config's run below `runs`, created if it does not exist. Of data that have moved it
        states the new place."""
        run = cls(child(runs, run_id(config)))
        path = run.path / "config.json"
        if not write_once(path, _stored(config)) and config.data.root not in ("", (known := run.config()).data.root):
            write_atomically(path, _stored(known.model_copy(update={"data": config.data})))
        return run

    @property
    def run_id(self) -> str:
        return self.path.name

    def config(self) -> Config:
        """Return the run's config; steps, milestones and evaluation are in its requests, not in this."""
        path = self.path / "config.json"
        try:
            stored = read_model(path, StoredConfig)
        except FileNotFoundError:
            raise self._is_no_run() from None
        if stored.version != SCHEMA_VERSION:
            raise UserError(
                f"{path}: made with config schema {stored.version}, but this version reads {SCHEMA_VERSION}; use the "
                "version that made it, or train a new run"
            )
        try:
            config = Config.model_validate_json(json.dumps(_without_former_fields(stored.config)))
        except ValidationError as error:
            raise damaged(path, StoredConfig, describe_damage(error)) from None
        if run_id(config) != self.run_id:
            identity = run_id(config)
            raise UserError(
                f"{path}: belongs to run {identity}, but its folder is {self.run_id}; rename it to {identity}"
            )
        return config

    def _is_no_run(self) -> UserError:
        known = self.path.exists()
        return UserError(f"{self.path}: {'not a run folder (no config.json)' if known else 'no such run folder'}")

    def add_requests(self, requests: Sequence[Request]) -> None:
        """Add the requests; the last one becomes the latest. Adds no file for what was requested before, except the
        number by which the latest is known."""
        for request in requests:
            write_once(self._request(request.digest), request.model_dump_json(indent=1).encode())
        latest = Asked(request=requests[-1].digest)
        self._asked.append(latest, is_in_force=lambda: self._last_asked() == latest)

    def requests(self) -> list[Request]:
        return [read_request(path) for path in self._request_paths()]

    def latest_request(self) -> Request:
        """Return the request that was asked for last; raise UserError if there is none.

        Requests without a number in `asked`, as versions of before made them, are older than all others. Among
        themselves they are in the order of their files' times, for lack of anything better.
        """
        if asked := self._asked.last():
            try:
                return read_request(self._request(asked.request))
            except FileNotFoundError:
                path = self._asked.path(self._asked.number())
                raise UserError(
                    f"{path}: request {asked.request} does not exist; restore it, or {Asked.repair}"
                ) from None
        paths = sorted(self._request_paths(), key=lambda path: path.lstat().st_mtime)
        if not paths:
            if not (self.path / "config.json").exists():
                raise self._is_no_run()
            raise UserError(f"{self.path}: has no request; make one with `diffussm train BASE` or ablations/launch.py")
        return read_request(paths[-1])

    def _request(self, digest: str) -> Path:
        return child(self.path / "requests", f"{digest}.json")

    def _request_paths(self) -> list[Path]:
        return sorted((self.path / "requests").glob("[!.]*.json"))

    @property
    def _asked(self) -> NumberedFiles[Asked]:
        return NumberedFiles(self.path / "asked", Asked)

    def _last_asked(self) -> Asked | None:
        with suppress(UserError):  # a damaged one is replaced by asking anew
            return self._asked.last()
        return None

    def allow_replay(self, request: Request) -> None:
        """Let the request have milestones whose weights were not kept, by training to them again."""
        write_once(self.path / "replays" / f"{request.digest}.json", b"{}")

    def may_replay(self, request: Request) -> bool:
        return (self.path / "replays" / f"{request.digest}.json").exists()

    @property
    def replay(self) -> "RunDir":
        return RunDir(self.path, "replay")

    def add_order(self, order: Literal["cancel", "retry"], failed: Collection[WorkDir] = ()) -> None:
        """Cancel the run, or let it be tried again: then the failures of the last attempts at `failed` are void."""
        attempts = {str(work.path.relative_to(self.path)): work.owner() for work in failed}
        self._orders.append(Order(order=order, retried_attempts=attempts))

    def last_order(self) -> Order | None:
        """Return the order in force; None if there never was one."""
        return self._orders.last()

    @property
    def cancelled(self) -> bool:
        order = self.last_order()
        return order is not None and order.order == "cancel"

    def order_number(self) -> int:
        """Return the number of the order in force; 0 if there never was one."""
        return self._orders.number()

    @property
    def _orders(self) -> NumberedFiles[Order]:
        return NumberedFiles(self.path / "orders", Order)

    def execution(self) -> Execution | None:
        """Return the execution settings chosen at the run's first start; None before it."""
        with suppress(FileNotFoundError):
            return read_model(self._execution, Execution)
        return None

    def decide_execution(self, proposed: Execution) -> Execution:
        """Return the execution settings chosen at the run's first start; `proposed` if this is it."""
        write_once(self._execution, to_json(proposed.model_dump(mode="json", by_alias=True)))
        return read_model(self._execution, Execution)

    @property
    def _execution(self) -> Path:
        return self.path / "machine.json"

    def write_provenance(self, attempt: int, provenance: dict[str, Any]) -> None:
        write_atomically(self.path / f"provenance-{attempt}.json", to_json(provenance))

    def checkpoint(self, step: int, attempt: int) -> Path:
        return self._checkpoints / f"{step:09d}-{attempt}.pt"

    def checkpoints(self) -> list[Path]:
        """Return all complete checkpoints, the newest first."""
        return sorted(self._checkpoints.glob("[0-9]*.pt"), key=_step_and_attempt, reverse=True)

    @property
    def _checkpoints(self) -> Path:
        return self.path / ("checkpoints" if self.mode == "train" else "replay")

    def trained_steps(self) -> int:
        """Return the step of the newest checkpoint; 0 without one."""
        newest = self.checkpoints()[:1]
        return step_of(newest[0]) if newest else 0

    def milestone(self, step: int) -> Path:
        return self.path / "milestones" / str(step)

    def weights(self, step: int, kind: str) -> Path:
        """Return the path of the kept weights (ema | raw) of a milestone."""
        return child(self.milestone(step), f"{kind}.safetensors")

    def kept_milestones(self, kind: str) -> list[int]:
        """Return the steps whose weights (ema | raw) are kept, in order."""
        steps = (path.parent.name for path in (self.path / "milestones").glob(f"*/{kind}.safetensors"))
        return sorted(int(step) for step in steps if step.isdecimal())

    def lost_milestones(self, request: Request, damaged: bool = False) -> list[int]:
        """Return the milestones that training has passed and whose weights, which the request evaluates, are missing:
        those that were not kept or, with `damaged`, those that were set aside."""
        trained, kind = self.trained_steps(), request.evaluation.weights
        missing = [step for step in request.milestones if step <= trained and not self.weights(step, kind).exists()]
        return [step for step in missing if was_set_aside(self.weights(step, kind)) == damaged]

    def evaluation(self, step: int, key_digest: str) -> WorkDir:
        return WorkDir(child(self.milestone(step), key_digest))

    def evaluations(self) -> list[WorkDir]:
        """Return the folders of all evaluations that were ever started."""
        return [WorkDir(path) for path in sorted(self.path.glob("milestones/*/*/")) if "." not in path.name]

    def record(self, step: int, key_digest: str) -> Path:
        return child(self.milestone(step), key_digest, "record.json")

    def loss_log(self, attempt: int) -> Path:
        return self.path / f"{self.mode}-{attempt}.jsonl"

    def loss_rows(self) -> list[dict[str, float]]:
        """Return the rows of the loss logs by step; where attempts overlap, the later attempt's.

        Incomplete and damaged lines are skipped: a run ends as it would without its log.
        """
        rows: dict[float, dict[str, float]] = {}
        attempts = (path.stem.removeprefix("train-") for path in self.path.glob("train-*.jsonl") if path.is_file())
        for attempt in sorted(int(number) for number in attempts if number.isdecimal()):
            for row in read_json_lines(self.path / f"train-{attempt}.jsonl"):
                if type(row.get("step")) is int and _are_finite(row):
                    rows[row["step"]] = row
        return [rows[step] for step in sorted(rows)]

    def remove_temporaries(self) -> None:
        """Delete incomplete files of a killed owner of the training; evaluations delete their own."""
        for folder in (self._checkpoints, *self.path.glob("milestones/*/")):
            WorkDir(folder).remove_temporaries()


def _are_finite(row: dict[str, Any]) -> bool:
    return all(type(value) in (int, float) and abs(value) < math.inf for value in row.values())


def is_run_folder(path: Path) -> bool:
    """Return whether a run was begun there: the folder of a saved model has a `config.json` too, but no requests."""
    return (path / "config.json").is_file() and (path / "requests").is_dir()


def step_of(checkpoint: Path) -> int:
    return _step_and_attempt(checkpoint)[0]


def _step_and_attempt(path: Path) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)-(\d+)", path.stem)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _stored(config: Config) -> bytes:
    stored = StoredConfig(version=SCHEMA_VERSION, config=config.model_dump(mode="json", exclude=_NOT_STORED))
    return to_json(stored.model_dump(by_alias=True))


def _without_former_fields(stored: dict[str, Any]) -> dict[str, Any]:
    """Return a stored config without former fields, which nothing used, in sections without the field beside them."""
    out = dict(stored)
    for section, (fields, unless) in _FORMER_FIELDS.items():
        if isinstance(part := stored.get(section), dict) and unless not in part:
            out[section] = {name: value for name, value in part.items() if name not in fields}
    return out
