"""What a user orders of a run: `orders/<n>.json`. The highest number is in force; none is ever changed."""

from typing import ClassVar, Literal

from pydantic import ConfigDict, Field

from diffussm.store.reading import StoredModel


class Order(StoredModel):
    """Cancel the run, or let it be tried again."""

    model_config = ConfigDict(populate_by_name=True)

    repair: ClassVar[str] = "delete it to have the order before it in force, or order anew (manage.py cancel | retry)"

    order: Literal["cancel", "retry"]
    retried_attempts: dict[str, int] = Field(
        {}, alias="forgiven", description="folder, relative to the run's, to its last attempt whose failure is void"
    )
