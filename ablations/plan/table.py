"""A plan as rows: for people, and for programs."""

from collections.abc import Mapping
from typing import Any

from ablations import table
from ablations.plan.estimate import Estimate, Estimates
from ablations.plan.makespan import schedule
from ablations.plan.plan import Planned

LEFT = ("base", "arm", "run", "state")


def row(p: Planned, estimate: Estimate) -> dict[str, Any]:
    """One run, for JSON and CSV; what is unknown is None."""
    per_step, needs = p.macs_per_step, p.run.arm.resources.model_dump(exclude_none=True)
    return {
        "base": p.base,
        "arm": p.run.arm.name,
        "seed": p.run.config.seed,
        "run": p.run.run_id,
        "parameters": p.arm.parameters,
        "macs_per_call": p.arm.macs.total,
        "macs_per_step": per_step,
        "steps": p.request.steps,
        "milestones": " ".join(map(str, p.request.milestones)),
        "macs_total": None if per_step is None else per_step * p.request.steps,
        "evaluations": p.state.evaluations,
        "evaluated": p.state.evaluated,
        "state": p.status,
        "step": p.state.step,
        "steps_left": p.steps_left,
        "replay_steps": p.replay_steps,
        "reason": p.state.reason or p.arm.missing_requirement,
        "resources": " ".join(f"{name}={value}" for name, value in needs.items()),
        "seconds": estimate.seconds,
        "estimate": estimate.basis,
    }


def text(estimated: Mapping[Planned, Estimate], several_bases: bool) -> str:
    rows = []
    for p, estimate in estimated.items():
        per_step = p.macs_per_step
        shown = {
            "arm": p.run.arm.name,
            "seed": p.run.config.seed,
            "run": p.run.run_id,
            "parameters": f"{p.arm.parameters:,}",
            "MACs/image and call": "unknown" if p.arm.macs.total is None else f"{p.arm.macs.total:,}",
            "MACs/step": table.big(per_step),
            "steps": f"{p.request.steps:,}",
            "MACs": table.big(None if per_step is None else per_step * p.request.steps),
            "evaluations": f"{p.state.evaluated}/{p.state.evaluations}" if p.state.evaluated else p.state.evaluations,
            "time": "" if p.done else table.duration(estimate.seconds),
            "state": p.words,
        }
        rows.append({"base": p.base, **shown} if several_bases else shown)
    return table.text(rows, LEFT)


def totals(estimated: Mapping[Planned, Estimate], estimates: Estimates, slots: int) -> dict[str, Any]:
    """MACs of the training that is left, and the time of all that is left on `slots` workers, and on what it stands.

    Arms that share a run train it once, as far as the longest of them asks, and each measures it in its own way.
    """
    runs: dict[str, list[Planned]] = {}
    for p in estimated:
        runs.setdefault(p.run.run_id, []).append(p)
    macs, lengths = [], []
    for arms in runs.values():
        macs.append(max((p.macs_per_step * p.steps_left for p in arms if p.macs_per_step), default=None))
        training = [e for p in arms if (e := estimated[p].training) is not None]
        if training:
            measured = {p.arm.key: estimated[p].evaluation or 0.0 for p in arms}
            width = arms[0].run.arm.resources.slots(estimates.threads)
            lengths.append((max(training) + sum(measured.values()), width))
    return {
        "training_macs_left": sum(m for m in macs if m is not None),
        "macs_unknown": macs.count(None),
        "worker_seconds_left": sum(seconds for seconds, _ in lengths),
        "seconds_left": schedule(lengths, slots),
        "workers": slots,
        "estimate": estimates.stand_on(estimated),
    }


def total_words(totals: dict[str, Any]) -> str:
    workers = f"{totals['workers']} worker{'s' if totals['workers'] > 1 else ''}"
    return (
        f"Left: {table.big(totals['training_macs_left'])} MACs of training; "
        f"{table.duration(totals['seconds_left'])} on {workers} "
        f"({table.duration(totals['worker_seconds_left'])} of work). Estimate: {totals['estimate']}."
    )
