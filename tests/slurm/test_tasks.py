"""Jobs of several tasks, on one node and on two; what SLURM gives each stays its own."""

import json
import re
import shutil
import sys
from pathlib import Path

from tests.slurm.cluster import Cluster
from tests.slurm.launching import ROOT, Runs

TWO_ARMS = ("--only", "M = 2*", "--only", "M = 1, P = 1")


def test_two_tasks_are_two_wherever_they_run(cluster: Cluster, tmp_path: Path) -> None:
    """On one node beside another run, with GPUs of their own; and on two nodes, with the same result to the bit."""
    near, far = Runs(cluster, tmp_path / "near"), Runs(cluster, tmp_path / "far")
    evaluator = ("evaluator.ntasks_per_node=2", "evaluator.gpus_per_node=2")
    on_one = ("ntasks_per_node=2", "gpus_per_node=2", "nodelist=a100-1", *evaluator)
    on_two = ("nodes=2", "gpus_per_node=1", "environment.GLOO_SOCKET_IFNAME=lo")
    trainings, _ = near.launch(*TWO_ARMS, *(word for change in on_one for word in ("--set-slurm", change)))
    far.one(*(word for change in on_two for word in ("--set-slurm", change)))
    for arm in ("M = 2, P = 1", "M = 1, P = 1"):
        near.wait_for_state("done", arm=arm)
    far.wait_for_state("done")
    (run,) = [run.run_id for run in far.folders() if run.owner()]
    assert near.results()[run] == far.results()[run]
    for runs, tasks in ((near, 2), (far, 1)):  # of the evaluators
        record = next(runs.path.glob(f"{run}/milestones/*/*/record.json"))
        assert json.loads(record.read_text())["provenance"]["processes"] == tasks
    for runs in (near, far):
        assert json.loads((runs.path / run / "provenance-1.json").read_text())["processes"] == 2

    output = "".join(path.read_text() for path in near.path.glob(f"slurm/{trainings}_*_log.out"))
    given = set(re.findall(r"task 2 of 2, on \S+, GPUs (\S+)", output))
    assert len(given) == 2
    assert {len(gpus.split(",")) for gpus in given} == {2}
    other_output = "".join(path.read_text() for path in far.path.glob("slurm/*_log.out"))
    assert len(set(re.findall(r"task . of 2, on (a100-\d)", other_output))) in (
        1,
        2,
    )  # names are the machine's if not root


def test_samples_and_evaluations_of_many_tasks_are_those_of_one(cluster: Cluster, tmp_path: Path) -> None:
    runs = Runs(cluster, tmp_path / "runs")
    _, run = runs.one()
    runs.wait_for_state("done")
    command = ["env", f"PYTHONPATH={ROOT}", f"DIFFUSSM_CACHE={tmp_path / 'cache'}", sys.executable, "-m", "diffussm"]
    two_tasks = ["srun", "--ntasks=2", "--nodes=2", "--time=5", "--mem=2G", *command]
    evaluate = ["evaluate", run.path, "--json", "--set", "evaluation.samples=20"]
    shutil.copytree(run.path, tmp_path / "copy" / run.run_id)
    (one,) = json.loads(cluster.run(*command, *evaluate))
    evaluate[1] = tmp_path / "copy" / run.run_id
    (two,) = json.loads(cluster.run(*two_tasks, *evaluate))
    assert two["provenance"]["processes"] == 2
    assert two["metrics"] == one["metrics"]
    for words, name in ((command, "one"), (two_tasks, "two")):
        cluster.run(*words, "sample", run.path, "--npz", tmp_path / f"{name}.npz", "--samples", 11)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
