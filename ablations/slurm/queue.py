"""The status of jobs: from squeue for pending and running jobs, then from sacct or scontrol for those that have ended.

Run folders and heartbeats take precedence over it: accounting may be absent, it may lag, and it reports a job that is
requeued after the loss of a node as NODE_FAIL for a while.
"""

from collections.abc import Collection

from ablations.slurm.commands import parse_rows, query, user
from ablations.status.scheduler import JobStatus

MAX_SCONTROL_QUERIES = 50  # scontrol reports one job at a time


def queued_jobs() -> dict[str, JobStatus] | None:
    """Return the status of each pending or running job of the user, the elements of arrays separately; None if the
    scheduler does not answer."""
    text = query("squeue", "--noheader", "--all", "--array", "--user", user(), "--format", "%i|%T|%r")
    if text is None:
        return None
    names = ("job", "state", "reason")
    return {row["job"]: JobStatus(row["job"], row["state"], row["reason"]) for row in parse_rows(text, names)}


def job_statuses(jobs: Collection[str]) -> dict[str, JobStatus] | None:
    """Return the status of each job, with state UNKNOWN where it is no longer known; None if the scheduler does not
    answer."""
    queued = queued_jobs()
    if queued is None:
        return None
    found = {job: queued[job] for job in jobs if job in queued}
    rest = [job for job in jobs if job not in found]
    found |= _from_sacct(rest)
    found |= _from_scontrol([job for job in rest if job not in found])
    return {job: JobStatus(job, "UNKNOWN") for job in jobs} | found


def _from_sacct(jobs: Collection[str]) -> dict[str, JobStatus]:
    """Return the status of jobs that accounting has."""
    if not jobs:
        return {}
    masters = sorted({job.partition("_")[0] for job in jobs}, key=int)
    columns, names = "JobID,State,ExitCode", ("job", "state", "reason")
    text = query("sacct", "-X", "-P", "-n", "-o", columns, "-j", ",".join(masters)) or ""
    found = {row["job"]: JobStatus(row["job"], _state(row["state"]), row["reason"]) for row in parse_rows(text, names)}
    return {job: found[job] for job in jobs if job in found}


def _from_scontrol(jobs: Collection[str]) -> dict[str, JobStatus]:
    """Return the status of recently ended jobs that slurmctld still has in memory, where there is no accounting."""
    found = {}
    newest = sorted(jobs, key=lambda job: [int(part) for part in job.split("_")])[-MAX_SCONTROL_QUERIES:]
    for job in newest:
        text = query("scontrol", "show", "job", "-o", job)
        fields = dict(word.split("=", 1) for word in (text or "").split() if "=" in word)
        if "JobState" in fields:
            found[job] = JobStatus(job, fields["JobState"], fields.get("ExitCode", ""))
    return found


def _state(text: str) -> str:
    """`CANCELLED by 1000` -> CANCELLED."""
    return text.split()[0].rstrip("+") if text.split() else ""
