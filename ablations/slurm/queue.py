"""What the scheduler says of jobs: squeue of those that wait or run, then sacct or scontrol of those that ended.

Asked last, after run folders and heartbeats: accounting may be absent, may lag, and calls a job that a lost node takes
back to the queue NODE_FAIL for a while.
"""

from collections.abc import Collection

from ablations.slurm.commands import ask, rows, user
from ablations.status.scheduler import Seen

MOST_ASKED_SINGLY = 50  # of scontrol, which is asked for one job at a time


def in_queue() -> dict[str, Seen] | None:
    """The user's jobs that wait or run, elements of arrays one by one; None where the scheduler does not answer."""
    text = ask("squeue", "--noheader", "--all", "--array", "--user", user(), "--format", "%i|%T|%r")
    if text is None:
        return None
    names = ("job", "word", "why")
    return {row["job"]: Seen(row["job"], row["word"], row["why"]) for row in rows(text, names)}


def look(jobs: Collection[str]) -> dict[str, Seen] | None:
    """What is known of the jobs, UNKNOWN what nobody remembers; None where the scheduler does not answer."""
    queued = in_queue()
    if queued is None:
        return None
    found = {job: queued[job] for job in jobs if job in queued}
    rest = [job for job in jobs if job not in found]
    found |= _accounted(rest)
    found |= _remembered([job for job in rest if job not in found])
    return {job: Seen(job, "UNKNOWN") for job in jobs} | found


def _accounted(jobs: Collection[str]) -> dict[str, Seen]:
    if not jobs:
        return {}
    masters = sorted({job.partition("_")[0] for job in jobs}, key=int)
    columns = "JobID,State,ExitCode"
    text = ask("sacct", "-X", "-P", "-n", "-o", columns, "-j", ",".join(masters)) or ""
    seen = {row["job"]: Seen(row["job"], _word(row["word"]), row["why"]) for row in rows(text, ("job", "word", "why"))}
    return {job: seen[job] for job in jobs if job in seen}


def _remembered(jobs: Collection[str]) -> dict[str, Seen]:
    """What slurmctld still has in memory of jobs that ended a while ago, where nothing is accounted."""
    out = {}
    newest = sorted(jobs, key=lambda job: [int(part) for part in job.split("_")])[-MOST_ASKED_SINGLY:]
    for job in newest:
        text = ask("scontrol", "show", "job", "-o", job)
        fields = dict(word.split("=", 1) for word in (text or "").split() if "=" in word)
        if "JobState" in fields:
            out[job] = Seen(job, fields["JobState"], fields.get("ExitCode", ""))
    return out


def _word(state: str) -> str:
    """`CANCELLED by 1000` -> CANCELLED."""
    return state.split()[0].rstrip("+") if state.split() else ""
