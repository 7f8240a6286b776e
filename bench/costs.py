"""Multiply-adds and least memory traffic of one call, in closed form.

A backward pass counts as two forward passes, as in `diffussm.cost`. S4D counts what its backend executes, to which the
roofline applies; the headline counts the multiply-adds of the function, whatever the backend.
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
    """Return the config of a model of one block on `shape.length` tokens."""
    fields = {"width": shape.width, "heads": shape.heads, "depth": 1, "patch": 1, "image_size": shape.side, **model}
    if fields.get("kind") != "dit":
        fields["hourglass"] = hourglass
    return Config(model=ModelConfig.model_validate(fields))


def block_macs(
    config: Config, batch: int, pass_: str, device: str, backend: str = "auto", only: str | tuple[str, ...] = "block."
) -> int | None:
    """Return the executed MACs of a block, or of its parts whose names start with `only`; None if a part has none."""
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
    """Return the headline MACs of a block, which must not have an external mixer."""
    blocks = (part.macs or 0 for part in parts(config) if part.name.startswith("block."))
    return FORWARDS[pass_] * batch * sum(blocks)


def model_macs(config: Config, batch: int, pass_: str, device: str) -> int | None:
    """Return the executed MACs of a call of the network."""
    m = config.model
    one = executed.executed_macs(config, select(config.training.backend, device, m.width, m.length))
    return one and FORWARDS[pass_] * (batch * one.per_image + one.fixed)


def model_headline(config: Config, batch: int, pass_: str) -> int | None:
    """Return the headline MACs of a call of the network."""
    total = forward_macs(config).total
    return total and FORWARDS[pass_] * batch * total


def bytes_moved(inputs: int, outputs: int, parameters: int, pass_: str) -> int:
    """Return the bytes transferred if nothing is read or written twice.

    The forward pass moves inputs, outputs and parameters. The backward pass reads inputs, parameters and the gradient
    of the outputs, and writes the gradients of inputs and parameters. AdamW reads and writes parameters and two
    moments, and reads the gradient.
    """
    forward = inputs + outputs + parameters
    backward = 2 * inputs + outputs + 2 * parameters
    update = 7 * parameters
    numbers = {FORWARD: forward, BOTH: forward + backward, TRAINING: forward + backward - inputs + update}
    return FLOAT32 * numbers[pass_]
