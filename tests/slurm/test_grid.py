"""A grid on the cluster, from the launch to its figures."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ablations.status.scheduler import RUNNING
from tests.slurm.cluster import Cluster
from tests.slurm.launching import ARM, BRIEF, ROOT, Runs, local_results
from tests.slurm.slow import Slow


def test_six_runs_two_at_a_time_are_what_the_local_executor_makes(cluster: Cluster, tmp_path: Path) -> None:
    """Three arms, two seeds, milestones by a job of their own, figures; never more than the throttle at once."""
    runs = Runs(cluster, tmp_path / "runs")
    arguments = ["--seeds", "2", "--base", "digits"]
    array, evaluator = runs.launch(*arguments, "--set-slurm", "throttle=2")
    most, at_once = 0, set[str]()
    while array in {job.partition("_")[0] for job in cluster.jobs()}:
        now = {job for job, state in cluster.jobs().items() if job.startswith(f"{array}_") and state in RUNNING}
        most, at_once = max(most, len(now)), at_once | now
        time.sleep(0.2)
    assert most == 2
    assert len(at_once) == 6
    assert runs.watch().endswith("6 runs: 6 done\n")
    cluster.wait_for(lambda: evaluator not in cluster.jobs())
    assert runs.results() == local_results(tmp_path / "local", *runs.grid(*arguments))
    assert all(run.owner() == 1 and run.state().phase == "done" for run in runs.folders())
    out = tmp_path / "out"
    runs.output_of("reports/make_figures.py", "--out", str(out))
    assert (out / "hourglass_vs_patch" / "digits" / "fid_over_steps.png").stat().st_size > 10_000
    again = runs.output_of("ablations/launch.py", *runs.grid("--executor", "slurm", "--profile", "cpu", *arguments))
    assert "Submitted" not in again


def test_more_runs_than_an_array_may_have(own_cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    """MaxArraySize is 3 there: three runs are two arrays, and with a throttle the second waits for the first."""
    cluster = own_cluster(max_array_size=3, nodes=1)
    cluster.command("up")
    runs = Runs(cluster, tmp_path / "runs")
    arguments = ["--set-slurm", "throttle=2"]
    plan = runs.output_of(
        "ablations/launch.py", *runs.grid("--executor", "slurm", "--dry-run", "--profile", "cpu", *arguments)
    )
    assert "Trainings: 3, in arrays of 2, 1; " in plan
    assert "Array limit: 2." in plan
    assert "a throttle applies within one array only" in plan
    first, second, _ = runs.launch(*arguments, **BRIEF)
    assert f"afterany:{first}_*" in cluster.run("scontrol", "show", "job", "-o", second)
    assert runs.watch().endswith("3 runs: 3 done\n")


def test_jobs_outlive_the_launching_shell_and_another_launch_does_not_submit_active_runs(
    cluster: Cluster, tmp_path: Path
) -> None:
    runs = Runs(cluster, tmp_path / "runs")
    arguments = runs.grid("--executor", "slurm", "--profile", "cpu", "--set-slurm", "throttle=1", "--only", "M = 1*")
    command = [sys.executable, str(ROOT / "ablations/launch.py"), *arguments, "--runs", str(runs.path)]
    shell = subprocess.Popen(["bash", "-c", f"{subprocess.list2cmdline(command)}; sleep 600"], env=cluster.env,
                             cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)  # fmt: skip
    cluster.wait_for(lambda: len(list(runs.path.glob("slurm/*.json"))) == 2)
    os.killpg(shell.pid, signal.SIGKILL)
    shell.wait()
    again = runs.output_of("ablations/launch.py", *arguments)
    assert "Submitted" not in again
    assert "not submitted: a job in the queue works on it" in again
    for arm in ("M = 1, P = 1", "M = 1, P = 2"):
        runs.wait_for_state("done", arm=arm)
    assert [run.owner() for run in runs.folders()] == [1, 1]


def test_a_milestone_is_measured_while_its_training_goes_on(cluster: Cluster, tmp_path: Path) -> None:
    slow = Slow(cluster, tmp_path)
    cluster.wait_for(lambda: any(slow.run.path.glob("milestones/8/*/record.json")), 240)
    assert slow.run.state().phase == "train"
    assert slow.runs.state() == "running"
    cluster.run("scancel", slow.job)


def test_status_knows_at_once(cluster: Cluster, tmp_path: Path) -> None:
    """That a job waits, why, and that it is gone."""
    runs = Runs(cluster, tmp_path / "runs")
    job, _ = runs.one("--set-slurm", "begin=now+1hour", **BRIEF)
    (found,) = [row for row in runs.states().values() if row["arm"] == ARM]
    assert (found["state"], found["reason"]) == ("pending", f"job {job} waits (BeginTime)")
    cluster.run("scancel", job)
    cluster.wait_for(lambda: runs.states()[ARM]["needs_launch"], 30)


def test_a_launch_from_inside_an_allocation(cluster: Cluster, tmp_path: Path) -> None:
    runs = Runs(cluster, tmp_path / "runs")
    arguments = runs.grid("--executor", "slurm", "--profile", "cpu", "--only", "M = 2*", **BRIEF)
    launch = [sys.executable, ROOT / "ablations/launch.py", *arguments, "--runs", runs.path]
    inside = cluster.tried("srun", "--ntasks=1", "--mem=2G", "--gres=gpu:2", "env", "WORLD_SIZE=8", *launch)
    assert inside.returncode == 0, inside.stderr
    assert "warning: this is inside job" in inside.stderr
    runs.wait_for_state("done")
    output = "".join(path.read_text() for path in runs.path.glob("slurm/*_log.out"))
    assert "task 1 of 1" in output
    assert "GPUs" not in output


def test_two_launches_at_once_run_nothing_twice(cluster: Cluster, tmp_path: Path) -> None:
    """Both may submit before either can see it: the jobs themselves see who was first."""
    runs = Runs(cluster, tmp_path / "runs")
    arguments = runs.grid("--executor", "slurm", "--profile", "cpu", "--only", "M = 2*")
    command = [sys.executable, str(ROOT / "ablations/launch.py"), *arguments, "--runs", str(runs.path)]
    both = [subprocess.Popen(command, env=cluster.env, cwd=ROOT, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [launch.wait() for launch in both] == [0, 0]
    runs.wait_for_state("done")
    (run,) = [run for run in runs.folders() if run.owner()]
    assert run.owner() == 1
    assert len(list(run.path.glob("milestones/*/*/owner-*.json"))) == 3


def test_hostile_names_of_folder_and_job(cluster: Cluster, tmp_path: Path) -> None:
    name = "-n runs of 'mine'; touch x $HOME \"&\" #SBATCH --hold ü"
    runs = Runs(cluster, tmp_path / name)
    job, _ = runs.one("--set-slurm", f"job-name={name}", **BRIEF)
    runs.wait_for_state("done")
    assert not (ROOT / "x").exists()
    as_accounted = name.replace('"', "`")
    assert as_accounted in cluster.run("sacct", "-X", "-n", "-P", "-o", "JobName", "-j", job)
    assert "==> log-1.txt <==" in runs.output_of("ablations/manage.py", "logs", "*m2p1*")


def test_a_hostile_name_of_a_grid_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    grid = tmp_path / "100% $(x).toml"
    grid.write_text((ROOT / "ablations/grids/hourglass_vs_patch.toml").read_text())
    refused = Runs(cluster, tmp_path / "runs").tried("ablations/launch.py", "--grid", str(grid), "--executor", "slurm")
    assert refused.returncode == 2
    assert "a grid's file name has" in refused.stderr
