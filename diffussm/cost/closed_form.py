"""Parameters and multiply-adds (MACs, counted once) of a forward call on one image, in closed form. No torch.

Headline MACs are the function's and do not depend on the backend that computes it: dense products, plus the mixer.
S4D, per channel, both directions: 10 L log2(2L) + 8 (L + 1) + 2 L, that is one real FFT and one inverse of length 2L
each way (a complex FFT of n points at 2.5 n log2 n MACs, a real one half), L + 1 complex products at 4, the skip.
Kernel generation is done once per call, not per image, and is left out.

Dense products of a block: 13 (L/M) D^2 + L D^2, the paper's own count. Its parameter count of 9 D^2 + 2 M D^2 does not
follow from the shapes, which give 13 D^2 + M D^2 beside 3 D^2 of conditioning; they are counted here as they are.
"""

import math
from dataclasses import dataclass

from diffussm.config import TIMESTEP_FREQUENCIES, Config


@dataclass(frozen=True)
class Macs:
    """MACs of one network call on one image."""

    dense: int
    mixer: int

    @property
    def total(self) -> int:
        return self.dense + self.mixer


def forward_macs(config: Config) -> Macs:
    m = config.model
    d, tokens, positions = m.width, m.length, m.short_length
    pixels = m.hourglass * m.patch**2  # of one position
    embedding = positions * pixels * m.channels * d + TIMESTEP_FREQUENCIES * d + d * d
    block = 13 * positions * d * d + tokens * d * d + 3 * d * d
    decoder = 2 * d * d + positions * d * pixels * config.outputs
    return Macs(dense=embedding + m.depth * block + decoder, mixer=m.depth * _mixer_macs(config))


def parameters(config: Config) -> int:
    m = config.model
    d = m.width
    pixels = m.hourglass * m.patch**2
    labels = (m.classes + 1) * d if m.classes else 0
    embedding = pixels * m.channels * d + d + TIMESTEP_FREQUENCIES * d + d + d * d + d + labels
    matrices = (13 + m.hourglass) * d * d
    biases = d + m.hourglass * d + 2 * d + 2 * d + 2 * d + d  # W_0, W_up, W_down, W_1, W_2, W_3
    block = matrices + biases + 3 * d * d + 3 * d + _mixer_parameters(config)
    decoder = 2 * d * d + 2 * d + d * pixels * config.outputs + pixels * config.outputs
    return embedding + m.depth * block + decoder


def _mixer_macs(config: Config) -> int:
    m = config.model
    match m.mixer:
        case "s4d":
            return round(m.width * (10 * m.length * math.log2(2 * m.length) + 8 * (m.length + 1) + 2 * m.length))
        case "identity":
            return 0


def _mixer_parameters(config: Config) -> int:
    m = config.model
    match m.mixer:
        case "s4d":  # per direction and channel: log dt, skip; per pair: decay, frequency, a complex weight
            return 2 * m.width * (2 + 4 * m.state // 2)
        case "identity":
            return 0
