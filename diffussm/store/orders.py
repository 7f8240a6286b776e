"""What a user orders of a run, in the order of ordering: `orders/<n>.json` to cancel or retry it, `asked/<n>.json` for
what is requested last. The highest number is in force; none is ever changed."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from diffussm.config import Request
from diffussm.store.reading import StoredModel, damaged, names_in, read_model
from diffussm.store.writing import to_json, write_once

Model = TypeVar("Model", bound=BaseModel)


class Order(StoredModel):
    """Cancel the run, or let it be tried again."""

    model_config = ConfigDict(populate_by_name=True)

    repair: ClassVar[str] = "delete it to have the order before it in force, or order anew (manage.py cancel | retry)"

    order: Literal["cancel", "retry"]
    retried_attempts: dict[str, int] = Field(
        {}, alias="forgiven", description="folder, relative to the run's, to its last attempt whose failure is void"
    )


class Asked(StoredModel):
    """The request that was asked for at that time."""

    repair: ClassVar[str] = "delete it to have the request before it in force, or request anew what is to be the latest"

    request: str = Field(pattern=r"^[0-9a-f]{12}$", description="digest")


def read_request(path: Path) -> Request:
    """Return the request in a file that is named by its digest; raise UserError if it is damaged, or another one."""
    request = read_model(path, Request)
    if request.digest != path.stem:
        raise damaged(path, Request, f"its content has the digest {request.digest}; delete it and launch the run again")
    return request


class NumberedFiles(Generic[Model]):
    """The files `<n>.json` of a folder, from 1, with contents of one model. Their order is that of their numbers, never
    of their times, which a copy of the folder changes."""

    def __init__(self, folder: Path, model: type[Model]):
        self.folder, self.model = folder, model

    def number(self) -> int:
        """Return the highest number; 0 if there is no file."""
        found = (re.fullmatch(r"(\d+)\.json", name) for name in names_in(self.folder))
        return max((int(match[1]) for match in found if match), default=0)

    def path(self, number: int) -> Path:
        return self.folder / f"{number}.json"

    def last(self) -> Model | None:
        """Return the content of the file with the highest number; None if there is no file."""
        number = self.number()
        return read_model(self.path(number), self.model) if number else None

    def append(self, content: Model, is_in_force: Callable[[], bool] = lambda: False) -> None:
        """Write the content under the next number, unless it `is_in_force`, which is asked again whenever another
        process has taken the number."""
        stored = to_json(content.model_dump(mode="json", by_alias=True))
        while not is_in_force() and not write_once(self.path(self.number() + 1), stored):
            pass
