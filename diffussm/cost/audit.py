"""Three counts of one model side by side: closed form, fvcore on the traced graph, torch's FlopCounterMode.

Each is compared on what it can see. fvcore with our handles sees all but products of real numbers element by element,
of which the closed form of S4D has one, the skip. FlopCounterMode sees matrix products and attention: no FFTs, no
complex products. `python -m diffussm.cost.audit` writes the counts of all named models as CSV.
"""

import csv
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from diffussm.config import Config
from diffussm.cost.counted import Uncounted, fvcore_macs, torch_macs
from diffussm.cost.executed import executed_macs
from diffussm.cost.named import NAMED, named


class Audit(NamedTuple):
    """MACs of a network call, each as two counters have it; residues relative to the closed form."""

    per_image: int  # closed form of what the backend executes
    per_image_fvcore: int
    fixed: int  # once per call
    fixed_fvcore: int
    products: int  # of per_image: matrix products and attention
    products_torch: int

    @property
    def residue_fvcore(self) -> float:
        return self.per_image_fvcore / self.per_image - 1

    @property
    def residue_torch(self) -> float:
        return self.products_torch / self.products - 1


def audit(config: Config, backend: str | None = None) -> Audit:
    """Runs the model twice on the CPU and twice without memory. Raises Uncounted, also without closed form."""
    executed = executed_macs(config, backend)
    if executed is None:
        raise Uncounted(f"model.mixer = {config.model.mixer!r} states no MACs to compare with")
    per_image, fixed = fvcore_macs(config, backend)
    return Audit(executed.per_image, per_image, executed.fixed, fixed, executed.products, torch_macs(config, backend))


def rows() -> Iterator[dict[str, Any]]:
    """A row for each named model, and for each backend where it has S4D."""
    for name in NAMED:
        config = named(name)
        for backend in ("fft", "chunked") if config.model.kind == "diffussm" else ("",):
            found = audit(config, backend or "auto")
            residues = {"residue_fvcore": found.residue_fvcore, "residue_torch": found.residue_torch}
            yield {"model": name, "backend": backend, **found._asdict(), **residues}


if __name__ == "__main__":
    table = csv.DictWriter(sys.stdout, ["model", "backend", *Audit._fields, "residue_fvcore", "residue_torch"])
    table.writeheader()
    for row in rows():
        table.writerow(row)
        sys.stdout.flush()
