"""Mixers over L at a constant number of tokens B L: S4D by each backend, attention, a copy.

Where their times and their memory cross over is what the choice of a mixer rests on.
"""

from functools import cache

import pytest
import torch
from torch import Tensor

from bench.costs import block_macs, config_of
from bench.layers import contender, noise, ready
from bench.measure import BOTH, PASSES, Bench, Trial, left_out, missing
from bench.scale import Shape
from diffussm.machine import memory_gb
from diffussm.models.layers import SelfAttention
from diffussm.models.mixers import build_mixer
from diffussm.ssm.parameters import S4DParameters
from diffussm.ssm.reference import recurrence
from diffussm.ssm.s4d import BACKENDS, S4D
from diffussm.ssm.selection import obstacle

LENGTHS = (64, 256, 1024, 4096, 16384)
STATE = 64
PARTS = 16  # of a sequence, whose first tells how long all will take; 64 is the shortest
QUERIES = 8  # positions of attention that are computed plainly

passes = pytest.mark.parametrize("pass_", PASSES)
lengths = pytest.mark.parametrize("length", LENGTHS)


@passes
@lengths
@pytest.mark.parametrize("backend", BACKENDS)
def test_s4d(bench: Bench, backend: str, length: int, pass_: str) -> None:
    shape = bench.scale.mixer(length)
    bench.describe("mixers", "mixer", f"S4D ({backend})", pass_, shape)
    if why := obstacle(backend, bench.scale.device):
        missing(f"S4D's backend {backend}: {why}")
    _refuse_memory(backend, shape, pass_, bench.scale.device)
    measure(bench, "s4d", backend, shape, pass_)


@passes
@lengths
@pytest.mark.parametrize("mixer", ["attention", "identity"])
def test_others(bench: Bench, mixer: str, length: int, pass_: str) -> None:
    shape = bench.scale.mixer(length)
    bench.describe("mixers", "mixer", mixer, pass_, shape)
    measure(bench, mixer, "auto", shape, pass_)


def measure(bench: Bench, mixer: str, backend: str, shape: Shape, pass_: str) -> None:
    """What a mixer gives is compared with its truth on a piece of the first sample."""
    config, device = config_of(shape, mixer=mixer), bench.scale.device
    width, length, batch = shape
    layer = ready(build_mixer(config.model, backend), device)
    u = noise(batch, length, width, device=device)

    def check() -> None:
        with torch.no_grad():
            found = layer(u[:1])
        if mixer == "s4d":
            found, expected = found[..., _ends(2 * width)], s4d_truth(shape, device)
        elif isinstance(layer, SelfAttention):
            found, expected = found[:, :QUERIES], attention_truth(layer, u[:1])
        else:
            expected = torch.cat([u[:1], u[:1]], dim=-1)
        torch.testing.assert_close(found.double(), expected.double(), atol=1e-4, rtol=1e-4)

    macs = block_macs(config, batch, pass_, device, backend, "block.mixer")
    timed = contender(layer, [u], (batch, length, 2 * width), pass_, macs, check)
    if mixer != "s4d":
        return bench.measure(timed)
    part = max(1, length // PARTS)
    start = contender(layer, [u.detach()[:, :part].clone()], (batch, part, 2 * width), pass_, None)
    longest = bench.scale.longest / (4 if backend == "reference" else 1)  # which nobody takes for its speed
    return bench.measure(timed._replace(trial=Trial(start.call, PARTS)), longest)


@cache
def s4d_truth(shape: Shape, device: str) -> Tensor:
    """The first channels of the layer that runs left to right, the last of the other, by the recurrence in float64."""
    layer = S4D(shape.width, STATE, bidirectional=True, backend="reference")
    ready(layer, device)
    u = noise(shape.batch, shape.length, shape.width, device=device)[:1]
    ends = _ends(shape.width)
    p = (layer.log_dt, layer.log_decay, layer.frequency, layer.c, layer.skip)
    with torch.no_grad():
        y = recurrence(S4DParameters(*(part[:, ends] for part in p)), u[..., ends].double(), True)
    return y[..., _ends(y.shape[-1])]


@torch.no_grad()
def attention_truth(layer: SelfAttention, u: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D/H)) v of the first positions, in float64."""
    heads, d = layer.heads, u.shape[-1]
    qkv = u.double() @ layer.qkv.weight.double().T + layer.qkv.bias.double()
    q, k, v = qkv.view(1, -1, 3, heads, d // heads).permute(2, 0, 3, 1, 4)  # (1, H, L, D/H)
    weights = (q[:, :, :QUERIES] @ k.mT / (d // heads) ** 0.5).softmax(-1)
    y = (weights @ v).transpose(1, 2).flatten(2)  # (1, queries, D)
    return y @ layer.proj.weight.double().T + layer.proj.bias.double()


def _ends(channels: int) -> list[int]:
    return [0, 1, channels - 2, channels - 1]


def _refuse_memory(backend: str, shape: Shape, pass_: str, device: str) -> None:
    """The plain FFT keeps complex exponents (2, D, N/2, L), what they were made of and their gradient; the recurrence,
    for its backward pass, three such products of every position and sample, in double precision."""
    channels = shape.width * STATE
    kept = {
        "fft": 3 * channels * shape.length * 8,
        "reference": 3 * channels * shape.length * shape.batch * 16 if pass_ == BOTH else 0,
    }
    needed = kept.get(backend, 0)
    room = torch.cuda.get_device_properties(0).total_memory if device == "cuda" else memory_gb() * 1e9
    if needed > room / 2:
        left_out(f"needs {needed / 1e9:.0f} GB, this machine has {room / 1e9:.0f}")
