"""Multiply-adds and least memory traffic of one call, in closed form.

A backward pass counts two forward ones, as everywhere in `diffussm.cost`. S4D counts what its backend executes.
"""

from bench.measure import BOTH, FORWARD, TRAINING
from bench.scale import Shape
from diffussm.config import Config, ModelConfig
from diffussm.cost import executed
from diffussm.cost.closed_form import parts
from diffussm.ssm.choice import choose_backend

FLOAT32 = 4  # bytes
FORWARDS = {FORWARD: 1, BOTH: 3, TRAINING: 3}


def config_of(shape: Shape, hourglass: int = 2, **model: object) -> Config:
    """One block's, over as many tokens."""
    whole = {"width": shape.width, "heads": shape.heads, "depth": 1, "patch": 1, "image_size": shape.side, **model}
    if whole.get("kind") != "dit":
        whole["hourglass"] = hourglass
    return Config(model=ModelConfig.model_validate(whole))


def block_macs(
    config: Config, batch: int, pass_: str, backend: str = "auto", only: str | tuple[str, ...] = "block."
) -> int | None:
    """Of a block, or of its parts whose names start with `only`; None where it is not known what a backend does."""
    m, total = config.model, 0
    for part in parts(config):
        if not part.name.startswith(only):
            continue
        if part.name == "block.mixer" and m.mixer == "s4d":
            if (mixer := s4d_macs(backend, m.width, m.state, m.length, batch)) is None:
                return None
            total += mixer
        elif part.macs is None:
            return None
        else:
            total += batch * part.macs
    return FORWARDS[pass_] * total


def s4d_macs(backend: str, width: int, state: int, length: int, batch: int) -> int | None:
    """Of both directions, forward; None for a backend whose count is not known."""
    try:
        one = executed.s4d(choose_backend(backend), width, state, length)
    except ValueError:
        return None
    return batch * one.per_image + one.fixed


def model_macs(config: Config, batch: int, pass_: str) -> int | None:
    """Of a whole network's call."""
    try:
        one = executed.executed_macs(config)
    except ValueError:
        return None
    return one and FORWARDS[pass_] * (batch * one.per_image + one.fixed)


def moved(inputs: int, outputs: int, parameters: int, pass_: str) -> int:
    """Bytes if nothing is read or written twice: forward, inputs, outputs and parameters; backward, inputs, parameters
    and the outputs' gradient read, the inputs' and the parameters' written; AdamW reads and writes parameters and two
    moments, and reads the gradient."""
    forward = inputs + outputs + parameters
    backward = 2 * inputs + outputs + 2 * parameters
    update = 7 * parameters
    numbers = {FORWARD: forward, BOTH: forward + backward, TRAINING: forward + backward - inputs + update}
    return FLOAT32 * numbers[pass_]
