"""What autograd keeps of a forward pass for the backward pass, part by part, in closed form. No torch.

A part is a layer: its input and its output, as far as the backward pass needs them and no part before it has them.
Under autocast a layer keeps a copy of its weights in bfloat16, and of its input where that is not in bfloat16.
Parameters and buffers are left out, and so is what is freed before the forward pass ends.
"""

from functools import partial
from typing import NamedTuple

from diffussm.config import TIMESTEP_FREQUENCIES, Config, ModelConfig
from diffussm.cost.closed_form import stream_length
from diffussm.cost.memory import s4d
from diffussm.cost.memory.precision import BFLOAT16, FLOAT32, INT64, Bytes


class Kept(NamedTuple):
    """What one of `times` occurrences of a part keeps, in bytes: for each image, and whatever the number of images."""

    part: str  # as in closed_form.Part; beside those `norm`, `condition` and `loss`
    times: int
    per_image: int
    copies: int = 0  # of weights in bfloat16
    tables: int = 0  # of S4D

    def of(self, images: int) -> int:
        """Return the bytes of one occurrence."""
        return images * self.per_image + self.copies + self.tables

    @property
    def in_block(self) -> bool:
        return self.part.startswith("block.")


def kept(config: Config, size: Bytes, backend: str) -> tuple[Kept, ...] | None:
    """Return what the parts keep in the order of computation; None if the mixer is an external one."""
    m = config.model
    if m.kind == "diffussm" and _mixer(m, size, backend) is None:
        return None
    d, f, length = m.width, size.dense, stream_length(m)
    condition = FLOAT32 if m.classes else f  # the sum with a label's embedding is in float32
    pixels = m.image_size**2 * m.channels
    return (
        # The gradient of images is not needed, nor are the weights, but torch keeps those of a convolution.
        Kept("x_embedder", 1, f * pixels, _copy(m.patch**2 * m.channels * d, size) if m.kind == "dit" else 0),
        Kept("t_embedder.mlp.0", 1, f * (TIMESTEP_FREQUENCIES + d)),
        Kept("t_embedder.mlp.2", 1, f * d, _copy(d * d, size)),
        *([Kept("y_embedder", 1, INT64)] if m.classes else []),
        Kept("condition", 1, condition * d),
        *(_dit_block(m, size) if m.kind == "dit" else _diffussm_block(m, size, backend)),
        _norm("final_layer.norm_final", 1, length, d, size),
        Kept("final_layer.adaLN_modulation", 1, f * d, _copy(2 * d * d, size)),
        Kept("final_layer.linear", 1, f * length * d, _copy(pixels // m.channels * config.outputs // length * d, size)),
        Kept("loss", 1, _loss(config, pixels)),
    )


def _copy(weights: int, size: Bytes) -> int:
    return BFLOAT16 * weights if size.autocast else 0


def _norm(name: str, times: int, length: int, width: int, size: Bytes) -> Kept:
    """Return a layer norm: its input, mean and deviation, and its output, which is modulated by 1 + scale."""
    return Kept(name, times, FLOAT32 * length * (2 * width + 2) + size.modulation * width)


def _adaln(m: ModelConfig, size: Bytes, outputs: int, alphas: int) -> Kept:
    """Return the layer from the condition to shifts, scales and alphas, of which a gated sum keeps alpha."""
    d = m.width
    alpha = size.alphas * alphas * d if size.alphas else size.dense * outputs * d
    return Kept("block.adaLN_modulation", m.depth, size.dense * d + alpha, _copy(outputs * d * d, size))


def _dit_block(m: ModelConfig, size: Bytes) -> list[Kept]:
    d, f, length, depth = m.width, size.dense, m.length, m.depth
    norm = partial(_norm, times=depth, length=length, width=d, size=size)
    output = size.modulation * length * d
    return [
        norm("block.norm1"),
        _adaln(m, size, outputs=6, alphas=2),
        Kept("block.attn.qkv", depth, f * 4 * length * d, _copy(3 * d * d, size)),
        Kept("block.attn (products)", depth, FLOAT32 * m.heads * length),  # logarithms of the sums of exponentials
        Kept("block.attn.proj", depth, f * length * d + output, _copy(d * d, size)),
        norm("block.norm2"),
        Kept("block.mlp.fc1", depth, f * 5 * length * d, _copy(4 * d * d, size)),
        Kept("block.mlp.fc2", depth, f * 4 * length * d + output, _copy(4 * d * d, size)),
    ]


def _diffussm_block(m: ModelConfig, size: Bytes, backend: str) -> list[Kept]:
    d, f, ratio, length, short, depth = m.width, size.dense, m.hourglass, m.length, m.short_length, m.depth
    full = m.residual == "full"
    output = size.modulation * stream_length(m) * d
    down = [Kept("block.v", depth, f * length * d, _copy(d * d, size))] if full else []
    up = [Kept("block.r", depth, f * short * d + output, _copy(ratio * d * d, size))] if full else []
    own_input = f * short * d if size.autocast and not full else 0  # W_0 has a copy of its own
    return [
        _norm("block.norm", depth, stream_length(m), d, size),
        _adaln(m, size, outputs=3, alphas=1),
        *down,
        Kept("block.w_0", depth, f * 2 * short * d, _copy(d * d, size)),
        Kept("block.w_up", depth, f * (short + length) * d, _copy(ratio * d * d, size)),
        *(_mixer(m, size, backend) or []),
        Kept("block.w_down", depth, f * 2 * (length + short) * d, _copy(4 * d * d, size)),
        Kept("block.w_1", depth, own_input + f * 4 * short * d, _copy(2 * d * d, size)),
        Kept("block.w_2", depth, f * 6 * short * d, _copy(4 * d * d, size)),
        Kept("block.w_3", depth, f * 2 * short * d + (0 if full else output), _copy(2 * d * d, size)),
        *up,
    ]


def _mixer(m: ModelConfig, size: Bytes, backend: str) -> list[Kept] | None:
    d, f, length, depth = m.width, size.dense, m.length, m.depth
    match m.mixer:
        case "s4d":
            of_s4d = s4d.kept(backend, d, m.state, length, m.direction == "bidirectional", size)
            return [Kept("block.mixer", depth, of_s4d.per_image, tables=of_s4d.fixed)]
        case "attention":
            return [
                Kept("block.mixer.qkv", depth, f * 4 * length * d, _copy(3 * d * d, size)),
                Kept("block.mixer (products)", depth, FLOAT32 * m.heads * length),
                Kept("block.mixer.proj", depth, f * length * d, _copy(2 * d * d, size)),
            ]
        case "identity":
            return [Kept("block.mixer", depth, 0)]
    return None


def _loss(config: Config, pixels: int) -> int:
    """Return the bytes of the loss on an image: an error of the noise; for the bound, images, two masks and entries of
    tables."""
    if not config.diffusion.learned_variance:
        return FLOAT32 * pixels
    images = 12 if config.diffusion.normal_cdf == "exact" else 14
    return (FLOAT32 * images + 2) * pixels + 4 * FLOAT32 + 1
