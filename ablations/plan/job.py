"""A job: the unit that an executor is given."""

from dataclasses import dataclass, field

from ablations.grid.schema import Resources
from diffussm.store.rundir import RunDir


@dataclass(frozen=True)
class Job:
    """A run to be trained and evaluated. `seconds` is the estimated duration, by which jobs are ordered; infinite if
    it is unknown."""

    run: RunDir
    seconds: float
    needs: Resources = field(default_factory=Resources)
