"""Profiles: how jobs are submitted at a site. A profile is a TOML file, which `--set-slurm` changes. An option with an
empty value is omitted.

[sbatch]        options of sbatch for trainings, by their long names, with `-` or `_`
[evaluator]     options that differ for the job that evaluates milestones
[environment]   environment variables of the jobs
srun            further arguments of srun
setup           lines of shell that run before srun
python          the command that starts Python, if it is not the launcher's own
throttle        the number of runs at a time; 0: as many as the scheduler allows
gpu_memory_gb   the memory of a GPU, for plans; 0: unknown
"""

import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from ablations.grid.schema import Resources
from ablations.slurm.options import GPU_OPTIONS, Value, count, gpu_count, sbatch_options
from diffussm.config import Section
from diffussm.config.schema_errors import describe
from diffussm.errors import UserError, unknown
from diffussm.host.source import ROOT

PROFILES = ROOT / "slurm" / "profiles"
RESERVED = {  # options that the executor sets
    "array": "the runs form the array",
    "output": "logs are written beside the runs",
    "error": "logs are written beside the runs",
    "open_mode": "a restarted job appends to its logs",
    "wrap": "the executor writes the script",
    "parsable": "the executor parses the output of sbatch",
}
FLAGS: dict[str, Value] = {"true": True, "false": ""}
COUNTS = ("nodes", "ntasks", "ntasks_per_node", "cpus_per_task")
Kind = Literal["train", "evaluate"]


class Profile(Section):
    """The fields of a profile. Options have underscores in their names."""

    sbatch: dict[str, Value] = Field(default_factory=dict)
    evaluator: dict[str, Value] = Field(default_factory=dict)
    environment: dict[str, str] = Field(default_factory=dict)
    srun: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    python: str = ""
    throttle: Annotated[int, Field(ge=0)] = 0
    gpu_memory_gb: Annotated[float, Field(ge=0)] = 0

    def with_environment(self, name: str, value: str) -> "Profile":
        """Return the profile with another environment variable."""
        return self.model_copy(update={"environment": {**self.environment, name: value}})

    def options(self, kind: Kind, needs: Resources | None = None) -> dict[str, Value]:
        """Return the options of sbatch for jobs of a kind, by names with underscores; "" if an option is unset."""
        if kind == "train":
            return dict(self.sbatch) | (sbatch_options(needs, self.sbatch) if needs else {})
        own_gpus = any(name in self.evaluator for name in GPU_OPTIONS)  # one way to request GPUs replaces another
        kept = {name: value for name, value in self.sbatch.items() if not (own_gpus and name in GPU_OPTIONS)}
        return kept | dict(self.evaluator)

    def tasks(self, needs: Resources | None = None, kind: Kind = "train") -> int:
        """Return the number of processes of a job."""
        options = self.options(kind, needs)
        return count(options, "ntasks") or (count(options, "nodes") or 1) * (count(options, "ntasks_per_node") or 1)

    def gpus(self, needs: Resources | None = None, kind: Kind = "train") -> int:
        """Return the number of GPUs of a job; 0 if none is requested."""
        options = self.options(kind, needs)
        per_node = gpu_count("gpus_per_node", options) or gpu_count("gres", options)
        if per_node:
            return (count(options, "nodes") or 1) * per_node
        return gpu_count("gpus", options) or self.tasks(needs, kind) * gpu_count("gpus_per_task", options)

    def cpus(self, needs: Resources | None = None, kind: Kind = "train") -> int:
        """Return the number of cores of one task."""
        return count(self.options(kind, needs), "cpus_per_task") or 1


def load(name: str, changes: Sequence[str] = ()) -> Profile:
    """Return the profile that `--profile` names (one of slurm/profiles, or the path of a file), with the changes of
    `--set-slurm`."""
    path = Path(name) if name.lower().endswith(".toml") else PROFILES / f"{name}.toml"
    if not path.is_file():
        if path.parent == PROFILES:
            raise unknown("--profile", name, (known.stem for known in PROFILES.glob("*.toml")))
        raise UserError(f"--profile {name}: no such file")
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid TOML: {error}") from None
    for change in changes:
        _apply(change, content)
    for name in content.get("environment", {}):
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise UserError(f"{path}: environment.{name}: not a valid name of an environment variable")
    try:
        profile = Profile.model_validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        raise UserError(f"{path}: {describe(error, Profile, content)}") from None
    return profile.model_copy(
        update={
            section: _checked(options, section, lambda option: _place(option, path, changes))
            for section, options in (("sbatch", profile.sbatch), ("evaluator", profile.evaluator))
        }
    )


def _apply(change: str, content: dict[str, Any]) -> None:
    """Apply one `--set-slurm key=value` to the content of a profile's file."""
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
    elif key in ("throttle", "gpu_memory_gb"):
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
        raise UserError(f"{section}: must be a table of options, as in [{section}]")
    return table


def _place(option: str, path: Path, changes: Sequence[str]) -> str:
    """Where an option `section.name` was set: by a `--set-slurm`, or in the file."""
    section, _, name = option.partition(".")
    for change in changes:
        key = change.partition("=")[0]
        of, dot, changed = key.partition(".")
        if (of, _underscored(changed)) == (section, name) or (
            not dot and ("sbatch", _underscored(key)) == (section, name)
        ):
            return f"--set-slurm {key}"
    return f"{path}: {option}"


def _checked(options: Mapping[str, Value], section: str, place: Callable[[str], str]) -> dict[str, Value]:
    """Return the options by names with underscores; raise UserError for one that sbatch cannot have, or that the
    executor sets."""
    out: dict[str, Value] = {}
    for key, value in options.items():
        name = _underscored(key)
        where = place(f"{section}.{name}")
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise UserError(f"{where}: not a long option of sbatch")
        if re.search(r"[\x00-\x1f\x7f]", str(value)):
            raise UserError(f"{where}: must be one line without control characters")
        if name in COUNTS and not re.fullmatch(r"[1-9]\d*|", str(value)):
            raise UserError(f"{where} = {value}: must be a whole number from 1")
        if name in RESERVED:
            raise UserError(f"{where}: cannot be set, because {RESERVED[name]}; remove it")
        if name == "signal" and not re.fullmatch(r"USR2@\d+", str(value)):
            raise UserError(f"{where} = {value}: must be USR2@<seconds>, the signal on which a run saves a checkpoint")
        out[name] = FLAGS.get(str(value).lower(), value)
        if name == "requeue" and str(value).lower() == "false":
            out["no_requeue"] = True  # without the option the site's default would hold
    return out


def _underscored(name: str) -> str:
    return name.strip().lower().removeprefix("--").replace("-", "_")
