"""Whether a cluster will carry a launch through time limits, preemption and lost nodes: its settings, then a job."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

from ablations.plan import snapshot
from ablations.slurm import queue, submissions
from ablations.slurm.commands import Site, ask, is_here, tell
from ablations.slurm.profile import Profile
from ablations.status.check import Check

WAIT_SECONDS = 180.0  # for the probe
POLL_SECONDS = 1.0
LEAST_VERSION = (20, 11)


def examine(runs: Path, profile: Profile) -> Iterator[Check]:
    """Settings, then what a job of the profile finds; the job is tried only where the cluster takes it."""
    site = Site.here()
    if not is_here() or not site.answers:
        missing = "no sbatch on this machine" if not is_here() else "scontrol show config: no answer"
        yield Check("fail", "cluster", f"{missing}; look from where jobs are submitted")
        return
    yield _version(site)
    yield Check("ok", "arrays", f"of up to {site.most_in_array} runs (MaxArraySize - 1)")
    yield _accounting(site)
    yield _requeue(site, profile)
    yield _preemption(site)
    yield _signal(profile, site)
    taken = list(_scripts(runs, profile))
    yield from taken
    if all(check.verdict == "ok" for check in taken):
        yield from _probe(runs, profile)


def _version(site: Site) -> Check:
    numbers = tuple(int(part) for part in site.version.split(".")[:2] if part.isdigit())
    return Check("ok" if numbers >= LEAST_VERSION else "warning", "slurm", f"{site.version}; tried with 22.05")


def _accounting(site: Site) -> Check:
    if ask("sacct", "-n", "-X", "-o", "JobID") is not None:
        return Check("ok", "accounting", "sacct answers")
    kept = site.settings.get("MinJobAge", "unknown")
    return Check("warning", "accounting", f"sacct does not; how a job died is known for {kept} (MinJobAge)")


def _requeue(site: Site, profile: Profile) -> Check:
    if site.settings.get("JobRequeue") == "1" or profile.sbatch.get("requeue") is True:
        return Check("ok", "requeue", "jobs may be queued again: they go on after a time limit or a lost node")
    return Check("warning", "requeue", "JobRequeue is 0: set requeue = true in the profile, or launch again by hand")


def _preemption(site: Site) -> Check:
    mode = site.settings.get("PreemptMode", "OFF")
    if site.settings.get("PreemptType", "preempt/none").endswith("none") or mode == "OFF":
        return Check("ok", "preemption", "there is none")
    if "preempt_send_user_signal" in site.settings.get("SlurmctldParameters", ""):
        return Check("ok", "preemption", f"{mode}, with a signal before: a run saves itself")
    return Check("warning", "preemption", f"{mode}, with no preempt_send_user_signal: a run saves itself on SIGTERM, "
                 f"within KillWait ({site.kill_seconds} s), or loses a minute")  # fmt: skip


def _signal(profile: Profile, site: Site) -> Check:
    signal = str(profile.sbatch.get("signal", ""))
    if not signal:
        return Check("warning", "signal", "unset: at its time limit a run loses up to a minute and is not queued again")
    return Check("ok", "signal", f"{signal}, and {site.kill_seconds} s more (KillWait)")


def _scripts(runs: Path, profile: Profile) -> Iterator[Check]:
    """Whether sbatch takes the profile, as far as that can be known without queueing."""
    from ablations.slurm.executor import Launch

    for kind, script in Launch(runs, snapshot.where(runs, ()), "doctor", profile).examples().items():
        complaint = tell("sbatch", "--test-only", "--output=/dev/null", input_text=script)
        told = complaint.removeprefix("sbatch: ").removeprefix("error: ")
        yield Check("fail" if told else "ok", "profile", f"{kind}: {told or 'sbatch takes it'}")


def _probe(runs: Path, profile: Profile) -> Iterator[Check]:
    """What a job finds on a node: the folder, the code, GPUs, and whether it may ask SLURM."""
    from ablations.slurm.executor import Launch

    with snapshot.taken(runs, ()) as code:
        job, answer = Launch(runs, code, "doctor", profile).probe()
        deadline, seen = time.monotonic() + WAIT_SECONDS, None
        while time.monotonic() < deadline and not answer.exists():
            time.sleep(POLL_SECONDS)
            seen = (queue.look([job]) or {}).get(job)
            if seen and seen.phase == "ended" and not answer.exists():
                break
        if not answer.exists():
            tell("scancel", job)
            state = f"{seen.word} ({seen.why})" if seen else "unknown"
            words = f"{job} wrote nothing in {WAIT_SECONDS:.0f} s: {state}; see its log in {submissions.folder(runs)}"
            yield Check("warning" if seen and seen.phase == "queued" else "fail", "job", words)
            return
        found = json.loads(answer.read_bytes())
        answer.unlink()
    yield Check("ok", "folder", f"{runs.absolute()} is shared with {found['host']}")
    yield Check("ok", "node", f"Python {found['python']}, torch {found['torch']}, {found['cores']} cores")
    wanted = 1 if profile.gpus() else 0
    there = f"{found['given']} given by SLURM to a task of the evaluator, {found['gpus']} seen by torch"
    yield Check("ok" if found["gpus"] >= wanted else "fail", "GPUs", there)
    asks = "jobs may ask squeue and scontrol" if found["asks"] else "squeue does not answer in jobs"
    yield Check("ok" if found["asks"] else "fail", "job", asks if found["asks"] else f"{asks}; they cannot requeue")
