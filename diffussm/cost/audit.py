"""Three counts of one model side by side: closed form, fvcore on the traced graph, torch's FlopCounterMode.

Each is compared on what it can see. fvcore with our handles sees all but products of real numbers element by element,
of which the closed form of S4D has one, the skip. FlopCounterMode sees matrix products and attention: no FFTs, no
complex products.
"""

from typing import NamedTuple

from diffussm.config import Config
from diffussm.cost.counted import fvcore_macs, torch_macs
from diffussm.cost.executed import executed_macs


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


def audit(config: Config, backend: str = "auto") -> Audit:
    """Runs the model twice on the CPU and twice without memory. Raises Uncounted; ValueError without closed form."""
    executed = executed_macs(config, backend)
    if executed is None:
        raise ValueError(f"{config.model.mixer} states no MACs")
    per_image, fixed = fvcore_macs(config, backend)
    return Audit(executed.per_image, per_image, executed.fixed, fixed, executed.products, torch_macs(config, backend))
