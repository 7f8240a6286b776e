"""Checks whether a cluster carries a launch through time limits, preemption and lost nodes: its settings, then a
job."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

from ablations.plan import snapshot
from ablations.slurm import queue, submissions
from ablations.slurm.commands import ClusterConfig, execute, has_sbatch, query
from ablations.slurm.profile import Profile
from ablations.status.check import Check
from ablations.status.scheduler import JobStatus

WAIT_SECONDS = 180.0  # for the probe
POLL_SECONDS = 1.0
LEAST_VERSION = (20, 11)


def examine(runs: Path, profile: Profile) -> Iterator[Check]:
    """Check the settings, and then submit a probe job with the profile, if sbatch accepts it."""
    cluster = ClusterConfig.current()
    if not has_sbatch() or not cluster.is_reachable:
        missing = "there is no sbatch on this machine" if not has_sbatch() else "`scontrol show config` failed"
        yield Check("fail", "cluster", f"{missing}; run the doctor where jobs are submitted")
        return
    yield _version(cluster)
    yield Check("ok", "arrays", f"at most {cluster.max_array_size} runs in an array (MaxArraySize - 1)")
    yield _accounting(cluster)
    yield _requeue(cluster, profile)
    yield _preemption(cluster)
    yield _signal(profile, cluster)
    scripts = list(_scripts(runs, profile))
    yield from scripts
    if all(check.verdict == "ok" for check in scripts):
        yield from _probe(runs, profile)


def _version(cluster: ClusterConfig) -> Check:
    numbers = tuple(int(part) for part in cluster.version.split(".")[:2] if part.isdigit())
    return Check("ok" if numbers >= LEAST_VERSION else "warning", "slurm", f"{cluster.version}; tested with 22.05")


def _accounting(cluster: ClusterConfig) -> Check:
    if query("sacct", "-n", "-X", "-o", "JobID") is not None:
        return Check("ok", "accounting", "sacct responds")
    kept = cluster.settings.get("MinJobAge", "unknown")
    return Check(
        "warning", "accounting", f"sacct does not respond; SLURM forgets why a job ended after {kept} (MinJobAge)"
    )


def _requeue(cluster: ClusterConfig, profile: Profile) -> Check:
    if cluster.settings.get("JobRequeue") == "1" or profile.sbatch.get("requeue") is True:
        return Check("ok", "requeue", "jobs can be requeued: they continue after a time limit or a lost node")
    return Check("warning", "requeue", "JobRequeue is 0; set requeue = true in the profile, or launch again by hand")


def _preemption(cluster: ClusterConfig) -> Check:
    mode = cluster.settings.get("PreemptMode", "OFF")
    if cluster.settings.get("PreemptType", "preempt/none").endswith("none") or mode == "OFF":
        return Check("ok", "preemption", "jobs are not preempted")
    if "preempt_send_user_signal" in cluster.settings.get("SlurmctldParameters", ""):
        return Check("ok", "preemption", f"{mode}, after a signal, upon which a run saves a checkpoint")
    return Check("warning", "preemption", f"{mode}, without preempt_send_user_signal: a run saves a checkpoint on "
                 f"SIGTERM, within KillWait ({cluster.kill_seconds} s), or loses up to a minute")  # fmt: skip


def _signal(profile: Profile, cluster: ClusterConfig) -> Check:
    signal = str(profile.sbatch.get("signal", ""))
    if not signal:
        return Check(
            "warning",
            "signal",
            "unset: at its time limit a run loses up to a minute and is not requeued; set signal = USR2@120",
        )
    return Check("ok", "signal", f"{signal}, followed by {cluster.kill_seconds} s before SIGKILL (KillWait)")


def _scripts(runs: Path, profile: Profile) -> Iterator[Check]:
    """Check whether sbatch accepts the profile, with --test-only."""
    from ablations.slurm.executor import SlurmLauncher

    for kind, script in SlurmLauncher(runs, snapshot.snapshot_path(runs, ()), "doctor", profile).examples().items():
        complaint = execute("sbatch", "--test-only", "--output=/dev/null", input_text=script)
        error = complaint.removeprefix("sbatch: ").removeprefix("error: ")
        yield Check("fail" if error else "ok", "profile", f"{kind}: {error or 'sbatch accepts it'}")


def _probe(runs: Path, profile: Profile) -> Iterator[Check]:
    """Check by a job on a node: the shared folder, the code, the GPUs, and access to SLURM."""
    from ablations.slurm.executor import SlurmLauncher

    with snapshot.code_snapshot(runs, ()) as code:
        job, answer = SlurmLauncher(runs, code, "doctor", profile).probe()
        deadline, status = time.monotonic() + WAIT_SECONDS, None
        while time.monotonic() < deadline and not answer.exists():
            time.sleep(POLL_SECONDS)
            status = (queue.job_statuses([job]) or {}).get(job)
            if status and status.phase == "ended" and not answer.exists():
                break
        if not answer.exists():
            execute("scancel", job)
            yield _no_answer(job, status, submissions.folder(runs))
            return
        found = json.loads(answer.read_bytes())
        answer.unlink()
    yield Check("ok", "folder", f"{runs.absolute()} is shared with {found['host']}")
    yield Check("ok", "node", f"Python {found['python']}, torch {found['torch']}, {found['cores']} cores")
    wanted = 1 if profile.gpus() else 0
    message = f"SLURM gives {found['visible_gpus']} to a task of the evaluator; torch sees {found['gpus']}"
    yield Check("ok" if found["gpus"] >= wanted else "fail", "GPUs", message)
    access = "jobs have access to squeue and scontrol"
    no_access = "squeue does not respond in jobs, so that they cannot requeue themselves"
    yield Check("ok" if found["can_query_slurm"] else "fail", "job", access if found["can_query_slurm"] else no_access)


def _no_answer(job: str, status: JobStatus | None, logs: Path) -> Check:
    """Return what to do about a probe job that wrote nothing."""
    state = f"{status.state}: {status.reason}" if status and status.reason else status.state if status else "unknown"
    waited = f"within {WAIT_SECONDS:.0f} s"
    if status and status.phase == "queued":
        again = "was cancelled; run the doctor again when the queue is shorter"
        return Check("warning", "job", f"job {job} did not start {waited} ({state}) and {again}")
    how = "ended without a result" if status and status.phase == "ended" else f"wrote nothing {waited}"
    return Check("fail", "job", f"job {job} {how} ({state}); see its log in {logs}")
