"""What the runs of a launch came to: a table of arms, from the records of their last milestones."""

import statistics
from collections.abc import Sequence

from ablations.plan.plan import PlannedRun
from diffussm import tables
from diffussm.errors import UserError
from diffussm.metric_table import METRICS
from diffussm.store import records
from diffussm.store.records import Record


def table(planned: Sequence[PlannedRun]) -> str:
    """Return a row for each arm that has results: the means over its seeds, with the number of them; "" if none has."""
    arms: dict[tuple[str, str], list[Record]] = {}
    for p in planned:
        if record := _last(p):
            arms.setdefault((p.base, p.run.arm.name), []).append(record)
    measured = [name for name in METRICS if all(name in record.metrics for found in arms.values() for record in found)]
    several_bases = len({base for base, _ in arms}) > 1
    rows = []
    for (base, arm), found in arms.items():
        means = {
            METRICS[name].title: f"{statistics.fmean(r.metrics[name] for r in found):.{METRICS[name].digits}f}"
            for name in measured
        }
        of_base = {"base": base} if several_bases else {}
        rows.append({**of_base, "arm": arm, "seeds": len(found), "step": f"{found[0].step:,}", **means})
    return tables.aligned(rows, ("base", "arm"))


def _last(p: PlannedRun) -> Record | None:
    """Return the record of the run's last milestone as this arm measures it; None if there is none."""
    if p.spec.key is None:
        return None
    try:
        return records.find(p.run_dir.milestone(p.request.steps), p.spec.digests)
    except (OSError, UserError):  # of a damaged folder, which the launch has told of
        return None
