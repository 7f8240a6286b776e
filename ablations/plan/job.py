"""What an executor is handed: a run to be brought to its end."""

from dataclasses import dataclass, field

from ablations.grid.schema import Resources
from diffussm.store.rundir import RunDir


@dataclass(frozen=True)
class Job:
    """`seconds` are estimated, infinite where nothing tells; for the order."""

    run: RunDir
    seconds: float
    needs: Resources = field(default_factory=Resources)
