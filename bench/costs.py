"""Multiply-adds and least memory traffic of one call, in closed form.

A backward pass counts two forward ones, as everywhere in `diffussm.cost`. S4D counts what its backend executes, which
is what a roofline bounds; the headline counts the function's multiply-adds, whatever backend computes it.
"""

from bench.measure import BOTH, FORWARD, TRAINING
from bench.scale import Shape
from diffussm.config import Config, ModelConfig
from diffussm.cost import executed
from diffussm.cost.closed_form import forward_macs, parts
from diffussm.ssm.selection import select

FLOAT32 = 4  # bytes
FORWARDS = {FORWARD: 1, BOTH: 3, TRAINING: 3}


def config_of(shape: Shape, hourglass: int = 2, **model: object) -> Config:
    """One block's, over as many tokens."""
    whole = {"width": shape.width, "heads": shape.heads, "depth": 1, "patch": 1, "image_size": shape.side, **model}
    if whole.get("kind") != "dit":
        whole["hourglass"] = hourglass
    return Config(model=ModelConfig.model_validate(whole))


def block_macs(
    config: Config, batch: int, pass_: str, device: str, backend: str = "auto", only: str | tuple[str, ...] = "block."
) -> int | None:
    """Of a block, or of its parts whose names start with `only`; None where a part has no count."""
    m, total = config.model, 0
    for part in parts(config):
        if not part.name.startswith(only):
            continue
        if part.name == "block.mixer" and m.mixer == "s4d":
            one = executed.s4d(select(backend, device, m.width, m.length), m.width, m.state, m.length)
            total += batch * one.per_image + one.fixed
        elif part.macs is None:
            return None
        else:
            total += batch * part.macs
    return FORWARDS[pass_] * total


def block_headline(config: Config, batch: int, pass_: str) -> int:
    """Of a block of this package's own."""
    blocks = (part.macs or 0 for part in parts(config) if part.name.startswith("block."))
    return FORWARDS[pass_] * batch * sum(blocks)


def model_macs(config: Config, batch: int, pass_: str, device: str) -> int | None:
    """Of a whole network's call."""
    m = config.model
    one = executed.executed_macs(config, select(config.training.backend, device, m.width, m.length))
    return one and FORWARDS[pass_] * (batch * one.per_image + one.fixed)


def model_headline(config: Config, batch: int, pass_: str) -> int | None:
    total = forward_macs(config).total
    return total and FORWARDS[pass_] * batch * total


def moved(inputs: int, outputs: int, parameters: int, pass_: str) -> int:
    """Bytes if nothing is read or written twice: forward, inputs, outputs and parameters; backward, inputs, parameters
    and the outputs' gradient read, the inputs' and the parameters' written; AdamW reads and writes parameters and two
    moments, and reads the gradient."""
    forward = inputs + outputs + parameters
    backward = 2 * inputs + outputs + 2 * parameters
    update = 7 * parameters
    numbers = {FORWARD: forward, BOTH: forward + backward, TRAINING: forward + backward - inputs + update}
    return FLOAT32 * numbers[pass_]
