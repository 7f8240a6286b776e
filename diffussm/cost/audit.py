"""Three counts of a model side by side: the closed form, fvcore on the traced graph, and torch's FlopCounterMode.

Each is compared with the closed form of what it counts. fvcore with our handles counts everything but element-wise
products of real numbers, of which S4D has one, the skip. FlopCounterMode counts matrix products and attention, but no
FFTs and no complex products. `python -m diffussm.cost.audit` writes the counts of all named models as CSV.
"""

import csv
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from diffussm.config import Config
from diffussm.cost.counted import Uncounted, fvcore_macs, torch_macs
from diffussm.cost.executed import executed_macs
from diffussm.cost.named import NAMED, named_config

RESIDUES = ("residue_fvcore", "residue_torch")


class Audit(NamedTuple):
    """MACs of a network call by two counts each; residues are relative to the closed form."""

    per_image: int  # closed form of what the backend executes
    per_image_fvcore: int
    fixed: int  # once per call
    fixed_fvcore: int
    products: int  # the part of per_image in matrix products and attention
    products_torch: int

    @property
    def residue_fvcore(self) -> float:
        return self.per_image_fvcore / self.per_image - 1

    @property
    def residue_torch(self) -> float:
        return self.products_torch / self.products - 1

    def as_row(self) -> dict[str, Any]:
        """Return the counts followed by the residues."""
        return {**self._asdict(), **{name: getattr(self, name) for name in RESIDUES}}


def audit(config: Config, backend: str | None = None) -> Audit:
    """Return the counts of a model, which is run twice on the CPU and twice on the meta device.

    Raises Uncounted for an operator without a handle and for a mixer that states no MACs.
    """
    executed = executed_macs(config, backend)
    if executed is None:
        raise Uncounted(f"model.mixer = {config.model.mixer!r} states no MACs, so there is nothing to compare with")
    per_image, fixed = fvcore_macs(config, backend)
    return Audit(executed.per_image, per_image, executed.fixed, fixed, executed.products, torch_macs(config, backend))


def rows() -> Iterator[dict[str, Any]]:
    """Yield a row for each named model, or, for models with S4D, one for each backend."""
    for name in NAMED:
        config = named_config(name)
        for backend in ("fft", "chunked") if config.model.kind == "diffussm" else ("",):
            yield {"model": name, "backend": backend, **audit(config, backend or "auto").as_row()}


if __name__ == "__main__":
    table = csv.DictWriter(sys.stdout, ["model", "backend", *Audit._fields, *RESIDUES])
    table.writeheader()
    for row in rows():
        table.writerow(row)
        sys.stdout.flush()
