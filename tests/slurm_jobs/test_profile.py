"""Profiles of clusters: what TOML says, what `--set-slurm` changes, what a grid's levels ask for, and the scripts."""

import re
import shlex
from pathlib import Path

import pytest

from ablations.grid.schema import Resources
from ablations.plan.job import Job
from ablations.slurm.arrays import Array
from ablations.slurm.executor import Launch
from ablations.slurm.options import Value
from ablations.slurm.profile import PROFILES, Profile, load
from diffussm.errors import UserError
from diffussm.store.rundir import RunDir

GOLDEN = Path(__file__).parents[1] / "golden_scripts"


def scripts(profile: str, runs: Path, changes: tuple[str, ...] = (), sizes: tuple[int, ...] = (3,)) -> str:
    """What a launch of arrays of those sizes gives sbatch, but for paths."""
    loaded = load(profile, changes)
    jobs = [Job(RunDir(runs / f"run-{number}"), 1.0) for number in range(max(sizes))]
    waits = bool(loaded.throttle)
    arrays = [Array(tuple(jobs[:size]), Resources(), waits and i > 0) for i, size in enumerate(sizes)]
    texts = Launch(runs, runs / "code" / "0123456789ab", "hourglass", loaded).scripts(arrays, ["run-0"])
    text = "\n".join(texts).replace(str(runs), "RUNS")
    return re.sub(r"\S+ -P -u", "PYTHON -P -u", text)


@pytest.mark.parametrize("name", sorted(path.stem for path in PROFILES.glob("*.toml")))
def test_scripts_are_the_golden_ones(name: str, tmp_path: Path) -> None:
    made = scripts(name, tmp_path)
    golden = GOLDEN / f"{name}.sh"
    assert made == golden.read_text(), f"if this is meant: write the new text to {golden}"


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


def test_submitits_own_defaults_are_not_there_unless_asked_for(tmp_path: Path) -> None:
    bare = tmp_path / "bare.toml"
    bare.write_text("[sbatch]\n")
    found = options(scripts(str(bare), tmp_path, sizes=(1,)).split("#!/bin/bash")[1])
    assert set(found) == {"error", "job-name", "open-mode", "output"}


def test_nothing_that_the_profile_says_can_break_out_of_the_script(tmp_path: Path) -> None:
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


def test_without_a_throttle_all_go_at_once(tmp_path: Path) -> None:
    first, second, _ = scripts("cpu", tmp_path, sizes=(3, 2)).split("#!/bin/bash")[1:]
    assert options(first)["array"] == "0-2%3"
    assert "dependency" not in options(second)


def test_srun_is_told_the_cores_of_a_task(tmp_path: Path) -> None:
    """Since SLURM 22.05 srun does not take --cpus-per-task from the batch script."""
    command = scripts("cpu", tmp_path, ("cpus_per_task=3",), sizes=(1,)).split("export SUBMITIT_EXECUTOR=slurm\n")[1]
    assert "--cpus-per-task=3" in shlex.split(command.splitlines()[0])


def test_a_level_asks_for_gpus_hours_memory_and_cores() -> None:
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


def test_gpus_may_be_asked_for_by_gres_or_by_task() -> None:
    by_gres = load("a100", ("gpus_per_node=", "gres=gpu:a100:8"))
    assert by_gres.gpus() == 8
    assert by_gres.options("train", Resources(gpus=4))["gres"] == "gpu:a100:4"
    assert load("a100", ("gpus_per_node=", "gpus_per_task=1")).gpus() == 8
    assert load("cpu").gpus() == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("account", "give it as key=value"),
        ("output=/x", "logs lie with the runs"),
        ("array=0-5", "runs make the array"),
        ("signal=USR1@60", "allowed: USR2@<seconds>"),
        ("throttle=many", "throttle"),
        ("trottle.x=1", "unknown name 'trottle'"),
        ("a b=1", "no long option of sbatch"),
    ],
)
def test_a_wrong_change_is_told(change: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load("a100", (change,))


def test_an_unknown_profile_or_key_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'a100'"):
        load("a10")
    with pytest.raises(UserError, match="no such file"):
        load(str(tmp_path / "mine.toml"))
    (tmp_path / "mine.toml").write_text("partiton = 'x'\n")
    with pytest.raises(UserError, match="partiton"):
        load(str(tmp_path / "mine.toml"))
    (tmp_path / "mine.toml").write_text("[sbatch\n")
    with pytest.raises(UserError, match="no TOML"):
        load(str(tmp_path / "mine.toml"))


@pytest.mark.parametrize("name", ["100%job", "back\\slash", "new\nline"])
def test_a_folder_whose_name_slurm_would_read_is_refused(tmp_path: Path, name: str) -> None:
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
def test_ways_to_ask_for_gpus(options: dict[str, Value], gpus: int, four: dict[str, Value]) -> None:
    profile = Profile(sbatch=options)
    assert profile.gpus() == gpus
    asked = profile.options("train", Resources(gpus=4))
    assert {name: asked[name] for name in four} == four


def test_gpus_in_all_and_tasks_in_all_are_counted() -> None:
    assert Profile(sbatch={"gpus": 16, "ntasks": 16}).gpus() == 16
    assert Profile(sbatch={"gpus": 16, "ntasks": 16}).tasks() == 16


def test_gpus_that_the_profile_does_not_ask_for_are_refused() -> None:
    with pytest.raises(UserError, match="the profile asks for no GPUs"):
        load("cpu").options("train", Resources(gpus=4))


def test_the_evaluator_asks_for_gpus_in_one_way() -> None:
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
def test_what_would_break_a_script_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "mine.toml").write_text(content)
    with pytest.raises(UserError):
        load(str(tmp_path / "mine.toml"), ("time=5",))


def test_a_time_without_quotes_is_a_time(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[sbatch]\ntime = 12:00:00\n")
    assert load(str(tmp_path / "mine.toml")).sbatch["time"] == "12:00:00"


def test_no_requeue_is_said_to_the_site(tmp_path: Path) -> None:
    found = options(scripts("a100", tmp_path, ("requeue=false",), sizes=(1,)).split("#!/bin/bash")[1])
    assert "no-requeue" in found
    assert "requeue" not in found
