"""Every backend against the float64 recurrence, outputs and every gradient, at awkward lengths; and S4D's own facts."""

import cmath
import itertools
import math
import re
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from diffussm.models.build import initialise
from diffussm.ssm import fft
from diffussm.ssm.backends import CHUNK, ONE_CHUNK
from diffussm.ssm.chunked.blocks import BLOCK
from diffussm.ssm.parameters import S4DParameters
from diffussm.ssm.reference import recurrence
from diffussm.ssm.s4d import BACKENDS, S4D
from tests.support import plain_s4d as plain
from tests.support.accuracy import FLOOR, assert_as_accurate
from tests.support.s4d_layers import layer, outputs_and_gradients, sequences

LENGTHS = [1, 3, 63, 64, 65, 100, 257, 1000]
CASES = [(backend, length) for length in LENGTHS for backend in plain.TRUSTED]
LONG = pytest.param("chunked", 4096, marks=pytest.mark.slow)
ANY_PRECISION = [backend for backend in BACKENDS if backend != "compiled"]


@cache
def truth(length: int, width: int, state: int, bidirectional: bool) -> dict[str, Tensor]:
    """By the recurrence in float64, and by autograd."""
    u, dy = sequences(2, length, width)
    made = layer(width, state, bidirectional, "reference").double()
    return outputs_and_gradients(made, u.double(), dy.double(), recurrence)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("backend", ANY_PRECISION)
def test_backend_equals_reference_in_float64(backend: str, length: int, bidirectional: bool) -> None:
    u, dy = sequences(2, length, 6)
    found = outputs_and_gradients(layer(6, 8, bidirectional, backend).double(), u.double(), dy.double())
    for name, expected in truth(length, 6, 8, bidirectional).items():
        torch.testing.assert_close(found[name], expected, rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(("backend", "length"), [*CASES, LONG, ("compiled", 4096)])
def test_backend_is_as_accurate_as_a_plain_computation_in_float32(backend: str, length: int) -> None:
    """With N = 64 as in training; tests/support/plain_s4d.py says which plain computation, and why."""
    width = 16 if length < 1000 else 4  # where the plain computations take long
    made, (u, dy) = layer(width, 64, True, backend), sequences(2, length, width)
    found, trusted = (outputs_and_gradients(made, u, dy, compute) for compute in (None, plain.TRUSTED[backend]))
    for name, exact in truth(length, width, 64, True).items():
        assert_as_accurate(found[name], trusted[name], exact, name)


def discretised_in_float32(p: S4DParameters, u: Tensor, bidirectional: bool) -> Tensor:
    """The recurrence as a careless hand writes it: exp(dt A) - 1, which cancels, and all else in single precision."""
    outputs = []
    for k, backwards in enumerate((False, bidirectional)):
        a = torch.complex(-p.log_decay[k].exp(), p.frequency[k])
        a_bar = (p.log_dt[k].exp()[:, None] * a).exp()
        v = u.flip(1) if backwards else u
        x, y = torch.zeros_like(a), []
        for position in v.unbind(1):
            x = a_bar * x + (a_bar - 1) / a * position[..., None]
            y.append(2 * (torch.view_as_complex(p.c[k]) * x).sum(-1).real)
        one = torch.stack(y, dim=1) + p.skip[k] * v
        outputs.append(one.flip(1) if backwards else one)
    return torch.cat(outputs, dim=-1)


@pytest.mark.parametrize("length", [3, 64])
def test_a_careless_backend_is_not_as_accurate(length: int) -> None:
    made, (u, dy) = layer(8, 64, True, "auto"), sequences(2, length, 8)
    exact = truth(length, 8, 64, True)
    found, trusted = (
        outputs_and_gradients(made, u, dy, compute) for compute in (discretised_in_float32, plain.recurrence)
    )
    with pytest.raises(AssertionError, match="errs by"):
        assert_as_accurate(found["log_decay"], trusted["log_decay"], exact["log_decay"])


@pytest.mark.parametrize("backend", ANY_PRECISION)
@pytest.mark.parametrize("bidirectional", [True, False])
def test_gradcheck(backend: str, bidirectional: bool) -> None:
    made = layer(2, 4, bidirectional, backend).double()
    names = [name for name, _ in made.named_parameters()]

    def function(u: Tensor, *parameters: Tensor) -> Tensor:
        return BACKENDS[backend](S4DParameters(**dict(zip(names, parameters, strict=True))), u, bidirectional)

    u = torch.randn(2, 5, 2, dtype=torch.float64, requires_grad=True)
    parameters = [p.detach().clone().requires_grad_() for p in made.parameters()]
    assert torch.autograd.gradcheck(function, (u, *parameters))


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_flip_and_swap(backend: str) -> None:
    """Flip the input and swap the directions' parameters: the output is flipped and its two halves are swapped."""
    made, swapped = layer(4, 8, True, backend), layer(4, 8, True, backend)
    swapped.load_state_dict({name: p.flip(0) for name, p in made.state_dict().items()})
    u = torch.randn(2, 13, 4)
    forward, backward = made(u).chunk(2, dim=-1)
    expected = torch.cat([backward, forward], dim=-1).flip(1)
    torch.testing.assert_close(swapped(u.flip(1)), expected)


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_who_sees_whom(backend: str) -> None:
    """An impulse at position 5: forward layers answer from 5 on, the reversed one up to 5; both see position 5."""
    u = torch.zeros(1, 11, 3)
    u[:, 5] = 1
    forward, backward = (answers(y) for y in layer(3, 8, True, backend)(u).chunk(2, dim=-1))
    assert forward == [False] * 5 + [True] * 6
    assert backward == [True] * 6 + [False] * 5
    second = layer(3, 8, False, backend)(u).chunk(2, dim=-1)[1]
    assert answers(second) == [False] * 5 + [True] * 6


def answers(y: Tensor) -> list[bool]:
    """Whether a position of y (1, L, D) is more than what an FFT rounds zeros to."""
    return (y.abs().amax((0, 2)) > FLOOR * torch.finfo(y.dtype).eps * y.abs().max()).tolist()


def test_kernel_is_the_formula() -> None:
    """K_l = 2 Re(sum_n C_n (exp(dt A_n) - 1)/A_n exp(l dt A_n)), written out in Python's complex numbers."""
    made = layer(2, 6, True, "fft").double()
    p = S4DParameters(*(parameter.detach() for parameter in made.parameters()))
    kernel = fft.kernel(p, 4)
    for direction, channel, position in itertools.product(range(2), range(2), range(4)):
        dt = math.exp(p.log_dt[direction, channel])
        expected = 0.0
        for n in range(3):
            a = complex(-math.exp(p.log_decay[direction, channel, n]), p.frequency[direction, channel, n])
            c = complex(*p.c[direction, channel, n].tolist())
            expected += 2 * (c * (cmath.exp(dt * a) - 1) / a * cmath.exp(position * dt * a)).real
        assert kernel[direction, channel, position].item() == pytest.approx(expected, rel=1e-10)


def test_initial_values_are_s4d_lin() -> None:
    made = layer(400, 64, True, "fft")
    torch.testing.assert_close(-made.log_decay.exp(), torch.full_like(made.log_decay, -0.5))
    torch.testing.assert_close(made.frequency[1, 7], math.pi * torch.arange(32))
    assert made.log_dt.min() >= math.log(1e-3)
    assert made.log_dt.max() <= math.log(1e-1)
    assert made.log_dt.mean().item() == pytest.approx(math.log(1e-2), abs=0.15)
    assert made.c.square().sum(-1).mean().item() == pytest.approx(1.0, abs=0.05)  # complex normal
    assert made.skip.std().item() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("init", "expected"),
    [
        ("lin", lambda n: complex(-0.5, math.pi * n)),
        ("inv", lambda n: complex(-0.5, 8 / math.pi * (8 / (2 * n + 1) - 1))),
        ("real", lambda n: complex(-(n + 1), 0)),
    ],
)
def test_initial_spectrum(init: str, expected: Callable[[int], complex]) -> None:
    made = S4D(3, 8, True, "fft", init)
    initialise(made, seed=0)
    for n in range(4):
        a = complex(-made.log_decay[1, 2, n].exp().item(), made.frequency[1, 2, n].item())
        assert a == pytest.approx(expected(n), rel=1e-6)


def test_parameters_are_real() -> None:
    assert not any(p.is_complex() for p in layer(4, 8, True, "fft").parameters())


def test_blocks_of_channels_are_pieces_of_one_layer() -> None:
    """More channels than one block, of which the last is not full, and a length that chunks do not divide."""
    width, length = BLOCK + 3, ONE_CHUNK + 5
    u, dy = torch.randn(2, length, width, dtype=torch.float64), torch.randn(2, length, 2 * width, dtype=torch.float64)
    by_fft = outputs_and_gradients(layer(width, 4, True, "fft").double(), u, dy)
    found = outputs_and_gradients(layer(width, 4, True, "chunked").double(), u, dy)
    for name, expected in by_fft.items():
        torch.testing.assert_close(found[name], expected, rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("backend", ["chunked", "compiled"])
@pytest.mark.parametrize(("batch", "length"), [(2, 200), (27, 37)])
def test_uninitialised_memory_is_never_read(
    backend: str, batch: int, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every `empty` filled with NaN: one element read before it is written would spread."""
    empty, empty_like, new_empty = torch.empty, torch.empty_like, Tensor.new_empty

    def poisoned(make):  # type: ignore[no-untyped-def]
        return lambda *args, **kwargs: make(*args, **kwargs).fill_(float("nan"))

    made, u, dy = layer(19, 8, True, backend), torch.randn(batch, length, 19), torch.randn(batch, length, 38)
    expected = outputs_and_gradients(made, u, dy)
    monkeypatch.setattr(torch, "empty", poisoned(empty))
    monkeypatch.setattr(torch, "empty_like", poisoned(empty_like))
    monkeypatch.setattr(Tensor, "new_empty", poisoned(new_empty))
    for name, value in outputs_and_gradients(made, u, dy).items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0, msg=name)


def test_chunked_never_builds_a_kernel_of_full_length() -> None:
    """No tensor of D N/2 L elements: the largest one saved or made is of input, output or a table."""
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = function(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, (tuple, list)) else [out]:
                if isinstance(tensor, Tensor):
                    largest = max(largest, tensor.untyped_storage().nbytes() // 4)
            return out

    width, length, state = 8, 4096, 64
    made, u = layer(width, state, True, "chunked"), torch.randn(1, length, width)
    with Watch():
        made(u)
    assert largest <= 2 * length * width * state / CHUNK  # the states carried, both directions
    assert largest < width * state // 2 * length / 4


def test_autocast_leaves_the_mixer_in_float32() -> None:
    made, u = layer(4, 8, True, "auto"), torch.randn(2, 16, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = made(u.bfloat16())
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, made(u.bfloat16().float()))


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
@pytest.mark.parametrize("shape", [(0, 64, 8), (2, 0, 8), (2, 64, 0), (64, 8)])
def test_input_that_is_empty_or_flat_is_refused(backend: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=re.escape(f"u has shape {shape}, expected (B, L, D) with no dimension of size 0")
    ):
        layer(8, 8, True, backend)(torch.zeros(shape))


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
@pytest.mark.parametrize("length", [64, 256])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_layer_in_half_precision_computes_in_float32(backend: str, length: int, dtype: torch.dtype) -> None:
    u, dy = (sequence.to(dtype) for sequence in sequences(2, length, 8))
    made = layer(8, 8, True, backend).to(dtype)
    found = outputs_and_gradients(made, u, dy)
    expected = outputs_and_gradients(made.float(), u.float(), dy.float())
    for name, value in found.items():
        assert value.dtype == dtype
        rounding = torch.finfo(dtype).eps
        torch.testing.assert_close(
            value.float(), expected[name], rtol=rounding, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("backend", sorted(BACKENDS))
@pytest.mark.parametrize("length", [64, 256])
def test_autocast_leaves_gradients_in_float32(backend: str, length: int) -> None:
    made, (u, dy) = layer(8, 8, True, backend), sequences(2, length, 8)
    expected = outputs_and_gradients(made, u, dy)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = outputs_and_gradients(made, u, dy)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
