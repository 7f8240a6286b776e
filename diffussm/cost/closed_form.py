"""Parameters and multiply-adds (MACs, counted once) of a forward call on one image, in closed form.

No torch, but for a mixer from outside, whose class is asked.

Headline MACs are the function's and do not depend on the backend that computes it: dense products, plus the mixer.

- S4D, per channel, both directions: 10 L log2(2L) + 8 (L + 1) + 2 L, that is one real FFT and one inverse of length
  2L each way (a complex FFT of n points at 2.5 n log2 n MACs, a real one half), L + 1 complex products at 4, the
  skip. Kernel generation is done once per call, not per image, and is left out.
- Attention in the block: projections 5 L D^2, and the two L x L products 2 D L^2. The paper's own count for attention
  in the SSM's place is the latter alone: `attention_products`.
- Dense products of a DiffuSSM block: 13 (L/M) D^2 + L D^2, the paper's own count; (L/M) D^2 + L D^2 more with
  residual `full`. The paper's parameter count of 9 D^2 + 2 M D^2 does not follow from its shapes, which give
  13 D^2 + M D^2 beside 3 D^2 of conditioning; they are counted here as they are.
- A DiT block: 12 L D^2 + 2 L^2 D + 6 D^2 (Peebles and Xie 2023).
"""

import math
from dataclasses import dataclass

from diffussm.config import TIMESTEP_FREQUENCIES, Config, ModelConfig


@dataclass(frozen=True)
class Macs:
    """MACs of one network call on one image; `mixer` is None where a mixer from outside states none."""

    dense: int
    mixer: int | None  # what mixes along the sequence, projections of attention included

    @property
    def total(self) -> int | None:
        return None if self.mixer is None else self.dense + self.mixer


def forward_macs(config: Config) -> Macs:
    m = config.model
    d, positions, pixels = m.width, _positions(m), _pixels(m)
    condition = TIMESTEP_FREQUENCIES * d + d * d
    ends = positions * pixels * m.channels * d + condition + 2 * d * d + positions * d * pixels * config.outputs
    if m.kind == "dit":
        block = 8 * m.length * d * d + 6 * d * d
        return Macs(dense=ends + m.depth * block, mixer=m.depth * (4 * m.length * d * d + attention_products(m)))
    block = 13 * m.short_length * d * d + m.length * d * d + 3 * d * d
    if m.residual == "full":
        block += m.short_length * d * d + m.length * d * d
    mixer = _mixer_macs(m)
    return Macs(dense=ends + m.depth * block, mixer=None if mixer is None else m.depth * mixer)


def parameters(config: Config) -> int:
    m = config.model
    d, pixels = m.width, _pixels(m)
    labels = (m.classes + 1) * d if m.classes else 0
    embedding = pixels * m.channels * d + d + TIMESTEP_FREQUENCIES * d + d + d * d + d + labels
    decoder = 2 * d * d + 2 * d + d * pixels * config.outputs + pixels * config.outputs
    block = _dit_block_parameters(d) if m.kind == "dit" else _diffussm_block_parameters(m)
    return embedding + m.depth * block + decoder


def attention_products(m: ModelConfig) -> int:
    """MACs of q k^T and of its product with v: 2 D L^2."""
    return 2 * m.width * m.length**2


def _positions(m: ModelConfig) -> int:
    """Of the residual stream."""
    return m.short_length if m.kind == "diffussm" and m.residual == "short" else m.length


def _pixels(m: ModelConfig) -> int:
    """Of one position of the residual stream."""
    return m.length * m.patch**2 // _positions(m)


def _dit_block_parameters(d: int) -> int:
    attention, mlp = 4 * d * d + 4 * d, 8 * d * d + 5 * d
    return attention + mlp + 6 * d * d + 6 * d


def _diffussm_block_parameters(m: ModelConfig) -> int:
    d = m.width
    matrices = (13 + m.hourglass) * d * d
    biases = d + m.hourglass * d + 2 * d + 2 * d + 2 * d + d  # W_0, W_up, W_down, W_1, W_2, W_3
    if m.residual == "full":
        matrices += d * d + m.hourglass * d * d  # V, R
        biases += d + m.hourglass * d
    return matrices + biases + 3 * d * d + 3 * d + _mixer_parameters(m)


def _mixer_macs(m: ModelConfig) -> int | None:
    match m.mixer:
        case "s4d":
            return round(m.width * (10 * m.length * math.log2(2 * m.length) + 8 * (m.length + 1) + 2 * m.length))
        case "attention":
            return 5 * m.length * m.width**2 + attention_products(m)
        case "identity":
            return 0
    from diffussm.models.mixers import outside_macs

    return outside_macs(m)


def _mixer_parameters(m: ModelConfig) -> int:
    match m.mixer:
        case "s4d":  # per direction and channel: log dt, skip; per pair: decay, frequency, a complex weight
            return 2 * m.width * (2 + 4 * m.state // 2)
        case "attention":
            return 5 * m.width**2 + 5 * m.width
        case "identity":
            return 0
    from diffussm.models.mixers import outside_parameters

    return outside_parameters(m)
