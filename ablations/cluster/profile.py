"""How jobs are asked for at a site: a TOML file of sbatch's options, changed by `--set-slurm`. An empty value unsets.

[sbatch]        options of sbatch by their long names, `-` or `_` alike; of trainings
[evaluator]     what differs for the job that evaluates milestones
[environment]   variables of the jobs
srun            further arguments of srun
setup           lines of shell before it
python          the command that starts Python, where it is not the launcher's own
throttle        runs at a time; 0: as many as the scheduler lets
"""

import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from ablations.grid_file import Resources
from ablations.grid_words import describe
from diffussm.config import Section
from diffussm.errors import UserError, unknown
from diffussm.source import ROOT

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
Value = str | int | float | bool
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
        options = dict(self.sbatch) | (self.evaluator if kind == "evaluate" else {})
        return options | (_of_resources(needs, options) if needs and kind == "train" else {})

    def tasks(self, needs: Resources | None = None) -> int:
        """Processes of one training."""
        options = self.options("train", needs)
        return int(options.get("nodes") or 1) * int(options.get("ntasks_per_node") or 1)

    def gpus(self, needs: Resources | None = None) -> int:
        """GPUs of one training; 0 where none is asked for."""
        options = self.options("train", needs)
        nodes, tasks = int(options.get("nodes") or 1), self.tasks(needs)
        if per_node := _number(options.get("gpus_per_node")) or _gpus_of_gres(options):
            return nodes * per_node
        return tasks * _number(options.get("gpus_per_task"))

    def cpus(self, needs: Resources | None = None) -> int:
        """Cores of one task."""
        return int(self.options("train", needs).get("cpus_per_task") or 1)


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
    try:
        profile = Profile.model_validate_json(json.dumps(content))
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
        content.setdefault(section, {})[name if section == "environment" else _underscored(name)] = value
    elif key in ("srun", "setup"):
        content[key] = [value] if value else []
    elif key == "throttle":
        content[key] = int(value) if value.isdigit() else value
    elif key == "python":
        content[key] = value
    else:
        options = content.setdefault("sbatch", {})
        for same in [known for known in options if _underscored(known) == _underscored(key)]:
            del options[same]
        options[_underscored(key)] = value


def _named(options: Mapping[str, Value], path: Path, section: str) -> dict[str, Value]:
    """Options under names with underscores; UserError for what cannot be one or is not the user's to set."""
    out: dict[str, Value] = {}
    for key, value in options.items():
        name = _underscored(key)
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise UserError(f"{path}: {section}.{key}: is no long option of sbatch")
        if name in OURS:
            raise UserError(f"{path}: {section}.{key}: cannot be set: {OURS[name]}")
        if name == "signal" and not re.fullmatch(r"USR2@\d+", str(value)):
            raise UserError(f"{path}: {section}.signal = {value}: allowed: USR2@<seconds>, which stops a run in order")
        out[name] = FLAGS.get(str(value).lower(), value)
        if name == "requeue" and str(value).lower() == "false":
            out["no_requeue"] = True  # leaving the option out would leave it to the site
    return out


def _of_resources(needs: Resources, options: Mapping[str, Value]) -> dict[str, Value]:
    """What a level of a grid asks for, in the options that the profile uses: `gpus` GPUs with a task for each, on as
    many nodes as they fill; `cpus` and `memory_gb` of all tasks together; `hours` until the job is cut off."""
    out: dict[str, Value] = {}
    nodes, tasks = int(options.get("nodes") or 1), int(options.get("ntasks_per_node") or 1)
    if needs.gpus:
        whole = _number(options.get("gpus_per_node")) or _gpus_of_gres(options) or tasks
        nodes = math.ceil(needs.gpus / whole)
        if needs.gpus % nodes:
            raise UserError(f"resources.gpus = {needs.gpus}: cannot be shared out evenly over {nodes} nodes of {whole}")
        tasks = needs.gpus // nodes
        out |= {"nodes": nodes, "ntasks_per_node": tasks}
        if options.get("gpus_per_node"):
            out["gpus_per_node"] = re.sub(r"\d+$", str(tasks), str(options["gpus_per_node"]))
        elif _gpus_of_gres(options):
            out["gres"] = re.sub(r"\d+$", str(tasks), str(options["gres"]))
    if needs.cpus:
        out["cpus_per_task"] = math.ceil(needs.cpus / (nodes * tasks))
    if needs.memory_gb:
        out |= {"mem": f"{math.ceil(needs.memory_gb / nodes * 1024)}M"}
    if needs.hours:
        minutes = math.ceil(needs.hours * 60)
        out["time"] = f"{minutes // 60}:{minutes % 60:02d}:00"
    return out


def _gpus_of_gres(options: Mapping[str, Value]) -> int:
    """GPUs per node of an option like gres=gpu:a100:8."""
    gres = str(options.get("gres") or "")
    return _number(gres) if gres.startswith("gpu") else 0


def _number(value: Value | None) -> int:
    """The count at the end of an option such as 8 or a100:8; 0 where it is unset."""
    found = re.search(r"(?:^|:)(\d+)$", str(value or ""))
    return int(found[1]) if found else int(bool(value))


def _underscored(name: str) -> str:
    return name.strip().lower().removeprefix("--").replace("-", "_")
