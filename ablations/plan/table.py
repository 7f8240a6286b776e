"""A plan as a table, and as rows for JSON and CSV."""

from collections.abc import Mapping
from typing import Any

from ablations.plan.estimate import Estimate, Estimates
from ablations.plan.makespan import makespan
from ablations.plan.plan import PlannedRun
from diffussm import tables

LEFT_ALIGNED = ("base", "arm", "run", "state")


def row(p: PlannedRun, estimate: Estimate) -> dict[str, Any]:
    """Return the row of a run for JSON and CSV; a value that is unknown is None."""
    per_step, needs = p.macs_per_step, p.run.arm.resources.model_dump(exclude_none=True)
    return {
        "base": p.base,
        "arm": p.run.arm.name,
        "seed": p.run.config.seed,
        "run": p.run.run_id,
        "provisional_id": p.spec.provisional,
        "parameters": p.spec.parameters,
        "macs_per_call": p.spec.macs.total,
        "macs_per_step": per_step,
        "steps": p.request.steps,
        "milestones": " ".join(map(str, p.request.milestones)),
        "macs_total": None if per_step is None else per_step * p.request.steps,
        "evaluations": p.state.evaluations,
        "evaluated": p.state.evaluated,
        "state": p.status,
        "step": p.state.step,
        "steps_left": p.remaining_steps,
        "replay_steps": p.replay_steps,
        "reason": p.state.reason or p.spec.missing_requirement,
        "resources": " ".join(f"{name}={value}" for name, value in needs.items()),
        "seconds": estimate.seconds,
        "estimate": estimate.basis,
    }


def text(estimated: Mapping[PlannedRun, Estimate], several_bases: bool) -> str:
    """Return the plan as a table."""
    rows = []
    for p, estimate in estimated.items():
        per_step = p.macs_per_step
        shown = {
            "arm": p.run.arm.name,
            "seed": p.run.config.seed,
            "run": f"{p.run.run_id} (provisional)" if p.spec.provisional else p.run.run_id,
            "parameters": f"{p.spec.parameters:,}",
            "MACs/image and call": "unknown" if p.spec.macs.total is None else f"{p.spec.macs.total:,}",
            "MACs/step": tables.format_count(per_step),
            "steps": f"{p.request.steps:,}",
            "MACs": tables.format_count(None if per_step is None else per_step * p.request.steps),
            "evaluations": f"{p.state.evaluated}/{p.state.evaluations}" if p.state.evaluated else p.state.evaluations,
            "time": "" if p.done else tables.format_duration(estimate.seconds),
            "state": p.description,
        }
        rows.append({"base": p.base, **shown} if several_bases else shown)
    return tables.aligned(rows, LEFT_ALIGNED)


def totals(estimated: Mapping[PlannedRun, Estimate], estimates: Estimates, slots: int) -> dict[str, Any]:
    """Return the MACs of the remaining training, the remaining time on `slots` workers, and the basis of the estimate.

    Arms that share a run train it once, as far as the longest request, and each evaluates it in its own way.
    """
    runs: dict[str, list[PlannedRun]] = {}
    for p in estimated:
        runs.setdefault(p.run.run_id, []).append(p)
    macs, lengths = [], []
    for arms in runs.values():
        macs.append(max((p.macs_per_step * p.remaining_steps for p in arms if p.macs_per_step), default=None))
        training = [e for p in arms if (e := estimated[p].training) is not None]
        if training:
            measured = {p.spec.key: estimated[p].evaluation or 0.0 for p in arms}
            width = arms[0].run.arm.resources.slots(estimates.threads)
            lengths.append((max(training) + sum(measured.values()), width))
    return {
        "training_macs_left": sum(m for m in macs if m is not None),
        "macs_unknown": macs.count(None),
        "worker_seconds_left": sum(seconds for seconds, _ in lengths),
        "seconds_left": makespan(lengths, slots),
        "workers": slots,
        "estimate": estimates.basis_of(estimated),
    }


def format_totals(totals: dict[str, Any]) -> str:
    """Return the totals as text."""
    workers = f"{totals['workers']} worker{'s' if totals['workers'] > 1 else ''}"
    return (
        f"Remaining: {tables.format_count(totals['training_macs_left'])} MACs of training; "
        f"{tables.format_duration(totals['seconds_left'])} on {workers} "
        f"({tables.format_duration(totals['worker_seconds_left'])} of work). Estimate: {totals['estimate']}."
    )
