"""Mixers over L at a constant number of tokens B L: S4D by each backend, attention, and the identity mixer.

The lengths at which their times and their memory cross show which mixer is cheaper.
"""

from functools import cache

import pytest
import torch
from torch import Tensor

from bench.costs import block_macs, config_of
from bench.layers import contender, initialised, noise
from bench.measure import BOTH, PASSES, Bench, Contender, Stopwatch, TimingResult, Trial, missing, skip
from bench.scale import Shape
from diffussm.host.machine import memory_gb
from diffussm.models.layers import SelfAttention
from diffussm.models.mixers import build_mixer
from diffussm.ssm.parameters import S4DParameters
from diffussm.ssm.reference import recurrence
from diffussm.ssm.s4d import BACKENDS, S4D
from diffussm.ssm.selection import unavailable_reason

LENGTHS = (64, 256, 1024, 4096, 16384)
STATE = 64
PARTS = 64  # of a sequence; the time of the recurrence, which is slow, is predicted from the first
LONGEST_BY_FFT = 1024
OTHER_MIXERS = ("attention", "identity")
QUERIES = 8  # positions of attention that are checked by its formula

passes = pytest.mark.parametrize("pass_", PASSES)
lengths = pytest.mark.parametrize("length", LENGTHS)


@passes
@lengths
@pytest.mark.parametrize("backend", BACKENDS)
def test_s4d(bench: Bench, backend: str, length: int, pass_: str) -> None:
    shape = bench.scale.mixer(length)
    bench.describe("mixers", "mixer", s4d(backend), pass_, shape)
    if why := unavailable_reason(backend, bench.scale.device):
        missing(f"S4D's backend {backend}: {why}")
    if why := out_of_memory_reason(backend, shape, pass_, bench.scale.device):
        skip(why)
    bench.record(in_turns(bench.stopwatch, shape, pass_), s4d(backend))


@passes
@lengths
@pytest.mark.parametrize("mixer", OTHER_MIXERS)
def test_others(bench: Bench, mixer: str, length: int, pass_: str) -> None:
    """Record the ratios of attention to each backend of S4D."""
    shape = bench.scale.mixer(length)
    bench.describe("mixers", "mixer", mixer, pass_, shape)
    outcomes = in_turns(bench.stopwatch, shape, pass_)
    bench.record(outcomes, mixer, [name for name in outcomes if name not in OTHER_MIXERS and mixer == "attention"])


def s4d(backend: str) -> str:
    return f"S4D ({backend})"


@cache
def in_turns(stopwatch: Stopwatch, shape: Shape, pass_: str) -> dict[str, TimingResult]:
    """Return the outcomes of all mixers of a length, so that changes of the machine's speed affect all of them."""
    device = stopwatch.scale.device
    run = [
        one
        for one in BACKENDS
        if not unavailable_reason(one, device) and not out_of_memory_reason(one, shape, pass_, device)
    ]
    contenders = {s4d(backend): s4d_contender(stopwatch, backend, shape, pass_) for backend in run}
    contenders |= {mixer: other_contender(mixer, shape, pass_, device) for mixer in OTHER_MIXERS}
    return stopwatch.in_turns(contenders)


def s4d_contender(stopwatch: Stopwatch, backend: str, shape: Shape, pass_: str) -> Contender:
    """Return S4D by a backend as a contender. A few channels of the first and the last sample are compared with the
    recurrence, and all results with those of another backend."""
    config, device = config_of(shape, mixer="s4d"), stopwatch.scale.device
    width, length, batch = shape
    layer, u = initialised(build_mixer(config.model, backend), device), noise(batch, length, width, device=device)

    def check() -> None:
        with torch.no_grad():
            found = layer(u)[[0, -1]][..., _ends(2 * width)]
        torch.testing.assert_close(found.double(), s4d_reference(shape, device), atol=1e-4, rtol=1e-4)

    macs = block_macs(config, batch, pass_, device, backend, "block.mixer")
    plain = initialised(build_mixer(config.model, other_backend(backend, length, device)), device)
    timed = contender(layer, [u], (batch, length, 2 * width), pass_, macs, check, plain=plain)
    if backend != "reference":
        return timed
    part = max(1, length // PARTS)
    start = contender(layer, [u.detach()[:, :part].clone()], (batch, part, 2 * width), pass_, None)
    return timed._replace(trial=Trial(start.call, PARTS), max_seconds=stopwatch.scale.max_seconds / 4)


def other_backend(backend: str, length: int, device: str) -> str:
    """Return the backend to compare with; the plain FFT is too expensive for a CPU at long lengths."""
    if backend != "chunked":
        return "chunked"
    by_fft = device != "cpu" or length <= LONGEST_BY_FFT or unavailable_reason("compiled", device)
    return "fft" if by_fft else "compiled"


def other_contender(mixer: str, shape: Shape, pass_: str, device: str) -> Contender:
    """Return attention or the identity mixer as a contender. Attention is compared with its formula at a few positions
    of the first and the last sample."""
    config = config_of(shape, mixer=mixer)
    width, length, batch = shape
    layer, u = initialised(build_mixer(config.model, "auto"), device), noise(batch, length, width, device=device)

    def check() -> None:
        with torch.no_grad():
            found, ends = layer(u), u[[0, -1]]
        if isinstance(layer, SelfAttention):
            found, expected = found[[0, -1], :QUERIES], attention_reference(layer, ends)
        else:
            expected = torch.cat([u, u], dim=-1)
        torch.testing.assert_close(found.double(), expected.double(), atol=1e-4, rtol=1e-4)

    macs = block_macs(config, batch, pass_, device, only=("block.mixer",))
    return contender(layer, [u], (batch, length, 2 * width), pass_, macs, check)


@cache
def s4d_reference(shape: Shape, device: str) -> Tensor:
    """Return the first channels of the layer that runs left to right and the last channels of the other one, by the
    recurrence in float64."""
    layer = S4D(shape.width, STATE, bidirectional=True, backend="reference")
    initialised(layer, device)
    u = noise(shape.batch, shape.length, shape.width, device=device)[[0, -1]]
    ends = _ends(shape.width)
    p = (layer.log_dt, layer.log_decay, layer.frequency, layer.c, layer.skip)
    with torch.no_grad():
        y = recurrence(S4DParameters(*(part[:, ends] for part in p)), u[..., ends].double(), True)
    return y[..., _ends(y.shape[-1])]


@torch.no_grad()
def attention_reference(layer: SelfAttention, u: Tensor) -> Tensor:
    """Return softmax(q k^T / sqrt(D/H)) v at the first positions, in float64."""
    heads, d = layer.heads, u.shape[-1]
    qkv = u.double() @ layer.qkv.weight.double().T + layer.qkv.bias.double()
    q, k, v = qkv.view(len(u), -1, 3, heads, d // heads).permute(2, 0, 3, 1, 4)  # (B, H, L, D/H)
    weights = (q[:, :, :QUERIES] @ k.mT / (d // heads) ** 0.5).softmax(-1)
    y = (weights @ v).transpose(1, 2).flatten(2)  # (B, queries, D)
    return y @ layer.proj.weight.double().T + layer.proj.bias.double()


def _ends(channels: int) -> list[int]:
    return [0, 1, channels - 2, channels - 1]


def out_of_memory_reason(backend: str, shape: Shape, pass_: str, device: str) -> str:
    """Return why this machine has too little memory; "" if it has enough.

    The plain FFT keeps complex exponents (2, D, N/2, L), their argument and their gradient; for its backward pass, the
    recurrence keeps three such products for every position and sample, in double precision."""
    channels = shape.width * STATE
    kept = {
        "fft": 3 * channels * shape.length * 8,
        "reference": 3 * channels * shape.length * shape.batch * 16 if pass_ == BOTH else 0,
    }
    needed = kept.get(backend, 0)
    total = torch.cuda.get_device_properties(0).total_memory if device == "cuda" else memory_gb() * 1e9
    return f"needs {needed / 1e9:.0f} GB, this machine has {total / 1e9:.0f}" if needed > total / 2 else ""
