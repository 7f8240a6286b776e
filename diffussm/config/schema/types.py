"""What the sections of the config are made of."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

SHA256_OR_EMPTY = r"^([0-9a-f]{64})?$"
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # a key of the random generators, which NumPy takes exactly up to there

EXTERNAL_CLASS = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"


def is_external(name: Any) -> bool:
    """Return whether a mixer or a data set is an external class, given as `package.module:Class`."""
    return isinstance(name, str) and ":" in name


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
