"""Parameters and multiply-adds (MACs, counted once) of a forward call on one image, part by part, in closed form.

No torch is imported, except for an external mixer, whose class states its cost. Only products are counted, not norms,
activations or sums, as in DiT's "Gflops" (Peebles and Xie 2023), which are MACs.

Headline MACs are those of the function and do not depend on the backend (see `executed` for those): dense products plus
the mixer.

- S4D, per channel, both directions: 10 L log2(2L) + 8 (L + 1) + 2 L, that is one real FFT and one inverse of length
  2L each way (a complex FFT of n points at 2.5 n log2 n MACs, a real one at half), L + 1 complex products at 4, and the
  skip. Kernel generation is done once per call, not per image, and is not counted.
- Attention in the block: projections 5 L D^2, and the two L x L products 2 D L^2. For attention in place of the SSM the
  paper counts the latter alone: `attention_products`.
- Dense products of a DiffuSSM block: 13 (L/M) D^2 + L D^2, the paper's own count; (L/M) D^2 + L D^2 more with
  residual `full`; and 3 D^2 of conditioning.
- A DiT block: 12 L D^2 + 2 L^2 D + 6 D^2.

A training step counts as three forward calls on every image of its batch: the backward pass counts as two.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from diffussm.config import TIMESTEP_FREQUENCIES, Config, ModelConfig


class Part(NamedTuple):
    """A module or a computation that occurs `times` times, with the `parameters` and `macs` of one occurrence.

    `name` is the name of the module in the model, with `block` for `blocks.<i>`. `macs` is None if an external mixer
    states none.
    """

    name: str
    times: int
    parameters: int
    macs: int | None
    mixes: bool = False  # whether it mixes along the sequence


@dataclass(frozen=True)
class Macs:
    """MACs of one network call on one image; `mixer` is None if an external mixer states none."""

    dense: int
    mixer: int | None  # all parts that mix along the sequence, including the projections of attention

    @property
    def total(self) -> int | None:
        return None if self.mixer is None else self.dense + self.mixer

    def training_step(self, batch: int) -> int | None:
        """Return the MACs of a training step on the whole batch: three times those of the forward pass."""
        return None if self.total is None else 3 * self.total * batch


def forward_macs(config: Config) -> Macs:
    """Return the headline MACs of one network call on one image."""
    all_parts = parts(config)
    dense = sum(part.times * (part.macs or 0) for part in all_parts if not part.mixes)
    if any(part.macs is None for part in all_parts):
        return Macs(dense, None)
    return Macs(dense, sum(part.times * (part.macs or 0) for part in all_parts if part.mixes))


def parameters(config: Config) -> int:
    """Return the number of parameters of the config's model."""
    return sum(part.times * part.parameters for part in parts(config))


def parts(config: Config) -> tuple[Part, ...]:
    """Return the parts of the config's model, in the order of computation."""
    return _parts(config.model, config.outputs)


@lru_cache(maxsize=4096)  # arms of a grid share most models
def _parts(m: ModelConfig, outputs: int) -> tuple[Part, ...]:
    d, positions, pixels = m.width, stream_length(m), _pixels(m)
    labels = [Part("y_embedder", 1, (m.classes + 1) * d, 0)] if m.classes else []
    return (
        _linear("x_embedder", pixels * m.channels, d, positions),
        _linear("t_embedder.mlp.0", TIMESTEP_FREQUENCIES, d),
        _linear("t_embedder.mlp.2", d, d),
        *labels,
        *(_dit_block(m) if m.kind == "dit" else _diffussm_block(m)),
        _linear("final_layer.adaLN_modulation", d, 2 * d),
        _linear("final_layer.linear", d, pixels * outputs, positions),
    )


def attention_products(m: ModelConfig) -> int:
    """Return the MACs of q k^T and of its product with v: 2 D L^2."""
    return 2 * m.width * m.length**2


def s4d_macs(width: int, length: int) -> int:
    """Return the MACs of both directions when computed by FFT, whatever the backend."""
    return round(width * (10 * length * math.log2(2 * length) + 8 * (length + 1) + 2 * length))


def _linear(
    name: str, inputs: int, outputs: int, positions: int = 1, times: int = 1, groups: int = 1, mixes: bool = False
) -> Part:
    """Return a linear layer with bias on `positions` positions; with `groups`, each position uses one of the groups."""
    return Part(name, times, groups * (inputs + 1) * outputs, positions * inputs * outputs, mixes)


def stream_length(m: ModelConfig) -> int:
    """Return the number of positions of the residual stream."""
    return m.short_length if m.kind == "diffussm" and m.residual == "short" else m.length


def _pixels(m: ModelConfig) -> int:
    """Return the number of pixels per position of the residual stream."""
    return m.length * m.patch**2 // stream_length(m)


def _dit_block(m: ModelConfig) -> list[Part]:
    d, length, depth = m.width, m.length, m.depth
    return [
        _linear("block.adaLN_modulation", d, 6 * d, 1, depth),
        _linear("block.attn.qkv", d, 3 * d, length, depth, mixes=True),
        Part("block.attn (products)", depth, 0, attention_products(m), mixes=True),
        _linear("block.attn.proj", d, d, length, depth, mixes=True),
        _linear("block.mlp.fc1", d, 4 * d, length, depth),
        _linear("block.mlp.fc2", 4 * d, d, length, depth),
    ]


def _diffussm_block(m: ModelConfig) -> list[Part]:
    d, ratio, length, short, depth = m.width, m.hourglass, m.length, m.short_length, m.depth
    full = m.residual == "full"
    down = [_linear("block.v", d, d // ratio, length, depth, groups=ratio)] if full else []
    up = [_linear("block.r", d, ratio * d, short, depth)] if full else []
    return [
        _linear("block.adaLN_modulation", d, 3 * d, 1, depth),
        *down,
        _linear("block.w_0", d, d, short, depth),
        _linear("block.w_up", d, ratio * d, short, depth),
        *_mixer(m),
        _linear("block.w_down", 2 * d, 2 * d // ratio, length, depth, groups=ratio),
        _linear("block.w_1", d, 2 * d, short, depth),
        _linear("block.w_2", 2 * d, 2 * d, short, depth),
        _linear("block.w_3", 2 * d, d, short, depth),
        *up,
    ]


def _mixer(m: ModelConfig) -> list[Part]:
    d, length, depth = m.width, m.length, m.depth
    match m.mixer:
        case "s4d":  # per direction and channel: log dt, skip; per pair: decay, frequency, a complex weight
            return [Part("block.mixer", depth, 2 * d * (2 + 4 * m.state // 2), s4d_macs(d, length), mixes=True)]
        case "attention":
            return [
                _linear("block.mixer.qkv", d, 3 * d, length, depth, mixes=True),
                Part("block.mixer (products)", depth, 0, attention_products(m), mixes=True),
                _linear("block.mixer.proj", d, 2 * d, length, depth, mixes=True),
            ]
        case "identity":
            return [Part("block.mixer", depth, 0, 0, mixes=True)]
    from diffussm.models.mixers import external_macs, external_parameters

    return [Part("block.mixer", depth, external_parameters(m), external_macs(m), mixes=True)]
