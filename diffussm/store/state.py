"""What the owner of a folder last reported (`state.json`), and the first of its processes that failed
(`failure-<attempt>.json`)."""

from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from diffussm.store.reading import StoredModel

Phase = Literal[
    "start", "train", "evaluate", "done", "failed", "diverged", "stopped", "preempted", "timed out", "cancelled"
]
ACTIVE = ("start", "train", "evaluate")  # phases in which a process works on the folder
FAILED = ("failed", "diverged")


class State(StoredModel):
    """Progress of a folder's task, and how its last attempt ended. Fields of later versions are kept."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    repair: ClassVar[str] = "delete it: the task continues from its checkpoints"

    phase: Phase
    attempt: int = Field(ge=0)
    heartbeat: int = Field(0, description="a counter that increases while the owner lives")
    reason: str = Field("", description="why it ended")
    warning: str = Field(
        "", description="what went wrong without ending it: a checkpoint that a full disk did not take"
    )
    is_transient: bool = Field(
        False, alias="can_pass", description="of a failure: a retry of the same task may succeed"
    )
    code: str = Field("", description="of a failure: digest of the code that failed")

    mode: Literal["train", "replay"] | None = Field(
        None, alias="lane", description="train, or replay: training to lost milestones"
    )
    step: int | None = Field(None, ge=0)
    steps: int | None = Field(None, gt=0, description="to train in all")
    loss: float | None = None
    seconds_per_step: float | None = Field(None, ge=0)

    milestone: int | None = Field(None, ge=0, description="step of the weights that are evaluated")
    sample: int | None = Field(None, ge=0, description="samples made")
    samples: int | None = Field(None, gt=0, description="to make in all")

    @property
    def is_active(self) -> bool:
        return self.phase in ACTIVE

    @property
    def has_failed(self) -> bool:
        return self.phase in FAILED

    def updated(self, **changes: Any) -> "State":
        """Return the state with these fields changed."""
        return State.model_validate(self.model_dump(exclude_unset=True) | changes)

    def reported(self) -> dict[str, Any]:
        """Return the fields that were reported, as they are stored."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


UNSTARTED = State(phase="start", attempt=0)  # of a folder that no process has worked on
