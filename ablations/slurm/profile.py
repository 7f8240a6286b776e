"""How jobs are asked for at a site: a TOML file of sbatch's options, changed by `--set-slurm`. An option whose value is
empty is left out.

[sbatch]        options of sbatch by their long names, `-` or `_` alike; of trainings
[evaluator]     what differs for the job that evaluates milestones
[environment]   variables of the jobs
srun            further arguments of srun
setup           lines of shell before it
python          the command that starts Python, where it is not the launcher's own
throttle        runs at a time; 0: as many as the scheduler lets
"""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from ablations.grid.messages import describe
from ablations.grid.schema import Resources
from ablations.slurm.options import OF_GPUS, Value, count, gpus_of, of_resources
from diffussm.config import Section
from diffussm.errors import UserError, unknown
from diffussm.host.source import ROOT

PROFILES = ROOT / "slurm" / "profiles"
OURS = {  # options that the executor sets
    "array": "runs make the array",
    "output": "logs lie with the runs",
    "error": "logs lie with the runs",
    "open_mode": "logs of a job that is started again go on",
    "wrap": "the executor writes the script",
    "parsable": "the executor reads what sbatch answers",
}
FLAGS: dict[str, "Value"] = {"true": True, "false": ""}
COUNTS = ("nodes", "ntasks", "ntasks_per_node", "cpus_per_task")
Kind = Literal["train", "evaluate"]


class Profile(Section):
    """A site's way to run jobs. `sbatch` has underscores in its names, and no empty values."""

    sbatch: dict[str, Value] = Field(default_factory=dict)
    evaluator: dict[str, Value] = Field(default_factory=dict)
    environment: dict[str, str] = Field(default_factory=dict)
    srun: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    python: str = ""
    throttle: Annotated[int, Field(ge=0)] = 0

    def options(self, kind: Kind, needs: Resources | None = None) -> dict[str, Value]:
        """sbatch's options of jobs of a kind, by names with underscores; "" where an option is unset."""
        if kind == "train":
            return dict(self.sbatch) | (of_resources(needs, self.sbatch) if needs else {})
        own_gpus = any(name in self.evaluator for name in OF_GPUS)  # asked for in one way
        kept = {name: value for name, value in self.sbatch.items() if not (own_gpus and name in OF_GPUS)}
        return kept | dict(self.evaluator)

    def tasks(self, needs: Resources | None = None) -> int:
        """Processes of one training."""
        options = self.options("train", needs)
        return count(options, "ntasks") or (count(options, "nodes") or 1) * (count(options, "ntasks_per_node") or 1)

    def gpus(self, needs: Resources | None = None) -> int:
        """GPUs of one training; 0 where none is asked for."""
        options = self.options("train", needs)
        per_node = gpus_of("gpus_per_node", options) or gpus_of("gres", options)
        if per_node:
            return (count(options, "nodes") or 1) * per_node
        return gpus_of("gpus", options) or self.tasks(needs) * gpus_of("gpus_per_task", options)

    def cpus(self, needs: Resources | None = None) -> int:
        """Cores of one task."""
        return count(self.options("train", needs), "cpus_per_task") or 1


def load(name: str, changes: Sequence[str] = ()) -> Profile:
    """The profile that `--profile` names (one of slurm/profiles, or the path of a file), changed by `--set-slurm`."""
    path = Path(name) if name.endswith(".toml") else PROFILES / f"{name}.toml"
    if not path.is_file():
        if path.parent == PROFILES:
            raise unknown("--profile", name, (known.stem for known in PROFILES.glob("*.toml")))
        raise UserError(f"--profile {name}: no such file")
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is no TOML: {error}") from None
    for change in changes:
        _apply(change, content)
    for name in content.get("environment", {}):
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise UserError(f"{path}: environment.{name}: is no name of a variable")
    try:
        profile = Profile.model_validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        raise UserError(f"{path}: {describe(error, Profile, content)}") from None
    return profile.model_copy(
        update={
            "sbatch": _named(profile.sbatch, path, "sbatch"),
            "evaluator": _named(profile.evaluator, path, "evaluator"),
        }
    )


def _apply(change: str, content: dict[str, Any]) -> None:
    """One `--set-slurm key=value` on the content of a profile's file."""
    key, equals, value = change.partition("=")
    if not equals or not key:
        raise UserError(f"--set-slurm {change}: give it as key=value, or as key= to unset it")
    section, dot, name = key.partition(".")
    if dot:
        if section not in ("sbatch", "evaluator", "environment"):
            raise unknown("--set-slurm", section, ("sbatch", "evaluator", "environment"))
        _table(content, section)[name if section == "environment" else _underscored(name)] = value
    elif key in ("srun", "setup"):
        content[key] = [value] if value else []
    elif key == "throttle":
        content[key] = int(value) if value.isdigit() else value
    elif key == "python":
        content[key] = value
    else:
        options = _table(content, "sbatch")
        for same in [known for known in options if _underscored(known) == _underscored(key)]:
            del options[same]
        options[_underscored(key)] = value


def _table(content: dict[str, Any], section: str) -> dict[str, Any]:
    table = content.setdefault(section, {})
    if not isinstance(table, dict):
        raise UserError(f"{section}: must be a table of options")
    return table


def _named(options: Mapping[str, Value], path: Path, section: str) -> dict[str, Value]:
    """Options under names with underscores; UserError for what cannot be one or is not the user's to set."""
    out: dict[str, Value] = {}
    for key, value in options.items():
        name = _underscored(key)
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise UserError(f"{path}: {section}.{key}: is no long option of sbatch")
        if re.search(r"[\x00-\x1f\x7f]", str(value)):
            raise UserError(f"{path}: {section}.{key}: must be one line, of no control characters")
        if name in COUNTS and not re.fullmatch(r"[1-9]\d*|", str(value)):
            raise UserError(f"{path}: {section}.{key} = {value}: allowed: a whole number from 1")
        if name in OURS:
            raise UserError(f"{path}: {section}.{key}: cannot be set: {OURS[name]}")
        if name == "signal" and not re.fullmatch(r"USR2@\d+", str(value)):
            raise UserError(f"{path}: {section}.signal = {value}: allowed: USR2@<seconds>, which stops a run in order")
        out[name] = FLAGS.get(str(value).lower(), value)
        if name == "requeue" and str(value).lower() == "false":
            out["no_requeue"] = True  # leaving the option out would leave it to the site
    return out


def _underscored(name: str) -> str:
    return name.strip().lower().removeprefix("--").replace("-", "_")
