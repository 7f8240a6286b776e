"""Profiles of clusters: their files, the changes of `--set-slurm`, the resources of levels, and the job scripts."""

import re
import shlex
from pathlib import Path

import pytest

from ablations.grid.schema import Resources
from ablations.plan.job import Job
from ablations.slurm.arrays import Array
from ablations.slurm.executor import SlurmLauncher
from ablations.slurm.options import Value
from ablations.slurm.profile import PROFILES, Profile, load
from diffussm.errors import UserError
from diffussm.store.rundir import RunDir

GOLDEN = Path(__file__).parents[1] / "golden_scripts"


def scripts(profile: str, runs: Path, changes: tuple[str, ...] = (), sizes: tuple[int, ...] = (3,)) -> str:
    """The scripts of a launch of arrays of these sizes, with placeholders for paths."""
    loaded = load(profile, changes)
    jobs = [Job(RunDir(runs / f"run-{number}"), 1.0) for number in range(max(sizes))]
    waits = bool(loaded.throttle)
    arrays = [Array(tuple(jobs[:size]), Resources(), waits and i > 0) for i, size in enumerate(sizes)]
    texts = SlurmLauncher(runs, runs / "code" / "0123456789ab", "hourglass", loaded).scripts(arrays, ["run-0"])
    text = "\n".join(texts).replace(str(runs), "RUNS")
    return re.sub(r"\S+ -P -u", "PYTHON -P -u", text)


@pytest.mark.parametrize("name", sorted(path.stem for path in PROFILES.glob("*.toml")))
def test_scripts_are_the_golden_ones(name: str, tmp_path: Path) -> None:
    made = scripts(name, tmp_path)
    golden = GOLDEN / f"{name}.sh"
    assert made == golden.read_text(), f"if this is intended, write the new text to {golden}"


def test_every_profile_has_its_golden_script() -> None:
    assert {path.stem for path in GOLDEN.glob("*.sh")} == {path.stem for path in PROFILES.glob("*.toml")}


def options(text: str) -> dict[str, str]:
    lines = (line.removeprefix("#SBATCH --").partition("=") for line in text.splitlines() if line.startswith("#SBATCH"))
    return {name: value for name, _, value in lines}


def test_an_option_is_set_added_and_unset(tmp_path: Path) -> None:
    changes = (
        "account=my lab",
        "gpus-per-node=",
        "gres=gpu:a100:8",
        "exclusive=true",
        "--mem=0",
        "requeue=false",
        "wckey=x",
    )
    found = options(scripts("a100", tmp_path, changes, sizes=(1,)).split("#!/bin/bash")[1])
    assert found["account"] == "'my lab'"
    assert found["gres"] == "gpu:a100:8"
    assert found["mem"] == "0"
    assert found["exclusive"] == ""
    assert found["wckey"] == "x"
    assert not {"gpus-per-node", "requeue", "partition", "constraint"} & set(found)


def test_defaults_of_submitit_are_not_in_the_script(tmp_path: Path) -> None:
    bare = tmp_path / "bare.toml"
    bare.write_text("[sbatch]\n")
    found = options(scripts(str(bare), tmp_path, sizes=(1,)).split("#!/bin/bash")[1])
    assert set(found) == {"error", "job-name", "open-mode", "output"}


def test_values_of_a_profile_are_quoted_in_the_script(tmp_path: Path) -> None:
    text = scripts("cpu", tmp_path, ("comment=a'; touch $HOME/x; '", "environment.NAME=$(touch x) 'y'"), sizes=(1,))
    assert "#SBATCH --comment=" + shlex.quote("a'; touch $HOME/x; '") in text
    assert "export NAME=" + shlex.quote("$(touch x) 'y'") in text


def test_a_throttle_chains_arrays_and_is_in_each(tmp_path: Path) -> None:
    first, second, evaluator = scripts("cpu", tmp_path, ("throttle=2",), sizes=(3, 2)).split("#!/bin/bash")[1:]
    assert options(first)["array"] == "0-2%2"
    assert options(second)["array"] == "0-1%2"
    assert "dependency" not in options(first)
    assert options(second)["dependency"].startswith("'afterany:")
    assert "array" not in options(evaluator)


def test_without_a_throttle_all_runs_start_at_once(tmp_path: Path) -> None:
    first, second, _ = scripts("cpu", tmp_path, sizes=(3, 2)).split("#!/bin/bash")[1:]
    assert options(first)["array"] == "0-2%3"
    assert "dependency" not in options(second)


def test_srun_gets_the_cores_of_a_task(tmp_path: Path) -> None:
    """Since SLURM 22.05 srun ignores the --cpus-per-task of the batch script."""
    command = scripts("cpu", tmp_path, ("cpus_per_task=3",), sizes=(1,)).split("export SUBMITIT_EXECUTOR=slurm\n")[1]
    assert "--cpus-per-task=3" in shlex.split(command.splitlines()[0])


def test_the_resources_of_a_level_as_options() -> None:
    profile = load("a100")
    two = profile.options("train", Resources(gpus=2, hours=1.5, memory_gb=100.5, cpus=16))
    assert {
        name: two[name] for name in ("nodes", "ntasks_per_node", "gpus_per_node", "time", "mem", "cpus_per_task")
    } == {
        "nodes": 1,
        "ntasks_per_node": 2,
        "gpus_per_node": "2",
        "time": "1:30:00",
        "mem": "102912M",
        "cpus_per_task": 8,
    }
    sixteen = Resources(gpus=16)
    assert profile.options("train", sixteen)["nodes"] == 2
    assert (profile.tasks(sixteen), profile.gpus(sixteen)) == (16, 16)
    assert (profile.tasks(), profile.gpus()) == (8, 8)
    assert profile.options("evaluate", sixteen)["nodes"] == 1


def test_gpus_by_gres_and_by_task() -> None:
    by_gres = load("a100", ("gpus_per_node=", "gres=gpu:a100:8"))
    assert by_gres.gpus() == 8
    assert by_gres.options("train", Resources(gpus=4))["gres"] == "gpu:a100:4"
    assert load("a100", ("gpus_per_node=", "gpus_per_task=1")).gpus() == 8
    assert load("cpu").gpus() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("account", "give it as key=value"),
        ("output=/x", "logs are written beside the runs"),
        ("array=0-5", "the runs form the array"),
        ("signal=USR1@60", "^--set-slurm signal = USR1@60: must be USR2@<seconds>"),
        ("evaluator.nodes=0", r"^--set-slurm evaluator\.nodes = 0: must be a whole number from 1"),
        ("throttle=many", "throttle"),
        ("trottle.x=1", "unknown name 'trottle'"),
        ("a b=1", "not a long option of sbatch"),
    ],
)
def test_errors_of_changes(change: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load("a100", (change,))


def test_errors_of_profiles(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'a100'"):
        load("a10")
    with pytest.raises(UserError, match="no such file"):
        load(str(tmp_path / "mine.toml"))
    (tmp_path / "mine.toml").write_text("partiton = 'x'\n")
    with pytest.raises(UserError, match="partiton"):
        load(str(tmp_path / "mine.toml"))
    (tmp_path / "mine.toml").write_text("[sbatch\n")
    with pytest.raises(UserError, match="not valid TOML"):
        load(str(tmp_path / "mine.toml"))


@pytest.mark.parametrize("name", ["100%job", "back\\slash", "new\nline"])
def test_a_folder_name_with_special_characters_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="--runs"):
        scripts("cpu", tmp_path / name)


@pytest.mark.parametrize(
    ("options", "gpus", "four"),
    [
        ({"gpus_per_node": 8}, 8, {"gpus_per_node": "4"}),
        ({"gpus_per_node": "a100:8"}, 8, {"gpus_per_node": "a100:4"}),
        ({"gpus_per_node": "a100"}, 1, {"gpus_per_node": "a100:1"}),
        ({"gres": "gpu:a100:8,nvme:1"}, 8, {"gres": "gpu:a100:4,nvme:1"}),
        ({"gres": "nvme:1,gpu:2"}, 2, {"gres": "nvme:1,gpu:2"}),
        ({"gpus_per_task": 1, "ntasks_per_node": 8}, 8, {"ntasks_per_node": 4}),
    ],
)
def test_ways_to_request_gpus(options: dict[str, Value], gpus: int, four: dict[str, Value]) -> None:
    profile = Profile(sbatch=options)
    assert profile.gpus() == gpus
    asked = profile.options("train", Resources(gpus=4))
    assert {name: asked[name] for name in four} == four


def test_total_numbers_of_gpus_and_tasks() -> None:
    assert Profile(sbatch={"gpus": 16, "ntasks": 16}).gpus() == 16
    assert Profile(sbatch={"gpus": 16, "ntasks": 16}).tasks() == 16


def test_a_profile_without_gpus_refuses_levels_with_gpus() -> None:
    with pytest.raises(UserError, match="the profile asks for no GPUs"):
        load("cpu").options("train", Resources(gpus=4))


def test_the_evaluator_requests_gpus_in_one_way() -> None:
    by_gres = load(
        "a100", ("gpus_per_node=", "gres=gpu:a100:8", "evaluator.gpus_per_node=", "evaluator.gres=gpu:a100:1")
    )
    asked = by_gres.options("evaluate")
    assert (asked["gres"], asked["gpus_per_node"], asked["nodes"]) == ("gpu:a100:1", "", 1)
    assert "gres" not in load("a100", ("gres=nvme:1",)).options("evaluate")


@pytest.mark.parametrize(
    "content",
    ["[sbatch]\nnodes = '1-2'\n", "[sbatch]\ncpus_per_task = 'x'\n", "[environment]\n'A B;touch x' = '1'\n",
     "[sbatch]\ncomment = 'a\\ntouch x'\n".replace("'a", '"a').replace("x'", 'x"'), "sbatch = 3\n"],
)  # fmt: skip
def test_values_that_would_break_a_script_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "mine.toml").write_text(content)
    with pytest.raises(UserError):
        load(str(tmp_path / "mine.toml"), ("time=5",))


def test_a_time_without_quotes_is_a_time(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[sbatch]\ntime = 12:00:00\n")
    assert load(str(tmp_path / "mine.toml")).sbatch["time"] == "12:00:00"


def test_requeue_false_becomes_no_requeue(tmp_path: Path) -> None:
    found = options(scripts("a100", tmp_path, ("requeue=false",), sizes=(1,)).split("#!/bin/bash")[1])
    assert "no-requeue" in found
    assert "requeue" not in found
