"""What an executor is handed: a run to be brought to its end."""

from dataclasses import dataclass, field

from ablations.grid_file import Resources
from diffussm.rundir import RunDir


@dataclass(frozen=True)
class Job:
    """`seconds` are estimated, infinite where nothing tells; for the order."""

    run: RunDir
    seconds: float
    needs: Resources = field(default_factory=Resources)
