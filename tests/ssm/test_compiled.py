"""The compiled backend beside plain torch: sizes, layouts, gradients, precision, memory, and inputs it cannot take."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from diffussm.ssm.backends import ONE_CHUNK
from diffussm.ssm.compiled import arguments, discretisation, plan
from diffussm.ssm.compiled.convolution import convolve
from diffussm.ssm.parameters import S4DParameters, discretise
from tests.support.s4d_layers import layer, outputs_and_gradients, sequences


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(
    ("batch", "length", "width", "state"),
    [
        (1, 1, 1, 2),
        (27, 5, 33, 6),
        (25, 64, 16, 64),
        (3, ONE_CHUNK, 9, 20),
        (2, ONE_CHUNK + 1, 8, 34),
        (5, 300, 7, 64),
        (90, 150, 2, 10),
    ],
)
def test_every_size(batch: int, length: int, width: int, state: int, bidirectional: bool) -> None:
    """Widths, states and lengths that no vector divides, batches of more than one panel, odd numbers of rows."""
    u, dy = sequences(batch, length, width)
    found = outputs_and_gradients(layer(width, state, bidirectional), u, dy)
    exact = outputs_and_gradients(layer(width, state, bidirectional, "chunked").double(), u.double(), dy.double())
    for name, expected in exact.items():
        scale = expected.abs().max().item()
        torch.testing.assert_close(found[name].double(), expected, rtol=0, atol=2e-6 * scale, msg=name)


def test_inputs_of_any_layout() -> None:
    u, dy = sequences(6, 40, 12)
    made = layer(12, 8)
    expected = outputs_and_gradients(made, u, dy)
    torch.testing.assert_close(made(u.transpose(0, 1).contiguous().transpose(0, 1)), expected["y"], rtol=0, atol=0)
    odd = outputs_and_gradients(made, u, dy.transpose(1, 2).contiguous().transpose(1, 2))
    for name, value in expected.items():
        torch.testing.assert_close(odd[name], value, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p, u: (p, u[0]), "u has shape (5, 4)"),
        (lambda p, u: (p, u[:, :0]), "u has shape (2, 0, 4)"),
        (lambda p, u: (p, u[..., :3]), "log_dt has shape (2, 4), expected (2, 3)"),
        (lambda p, u: (p._replace(frequency=p.frequency[..., :1]), u), "frequency has shape (2, 4, 1)"),
        (lambda p, u: (p._replace(c=p.c[..., 0]), u), "c has shape"),
        (lambda p, u: (p, u.double()), "u is torch.float64 on cpu"),
        (lambda p, u: (p._replace(skip=p.skip.to("meta")), u), "skip is torch.float32 on meta"),
    ],
)
def test_sizes_and_kinds_are_checked(
    change: Callable[[S4DParameters, Tensor], tuple[S4DParameters, Tensor]], words: str
) -> None:
    p, u = change(S4DParameters(*layer(4, 4).parameters()), torch.randn(2, 5, 4))
    with pytest.raises(ValueError, match=r"expected|computes float32 on CPUs") as error:
        convolve(p, u, True)
    assert words in str(error.value)


def test_nan_and_infinity_go_through() -> None:
    u, _ = sequences(1, 200, 8)
    u[0, 100, 3] = torch.nan
    y = layer(8, 8)(u)
    assert y[0, 100:, 3].isnan().all()
    assert y[0, :101, 11].isnan().all()
    assert y[..., [k for k in range(16) if k not in (3, 11)]].isfinite().all()


class Discretisation(torch.autograd.Function):
    """Of one channel, by the functions that are compiled; they take float64 too."""

    @staticmethod
    def forward(ctx, log_dt, log_decay, frequency, c):  # type: ignore[no-untyped-def]
        arrays = [tensor.detach().numpy().ravel() for tensor in (log_decay, frequency, c)]
        out, pairs = np.empty((2, 16)), len(arrays[0])
        discretisation.discretise(log_dt.item(), *arrays, pairs, 8, out[0], out[1])
        ctx.arrays, ctx.log_dt = arrays, log_dt.item()
        exponential, weights = (torch.complex(*torch.from_numpy(one).view(2, 8)[:, :pairs]) for one in out)
        return exponential.log(), weights

    @staticmethod
    def backward(ctx, d_z, d_w):  # type: ignore[no-untyped-def]
        pairs = len(ctx.arrays[0])
        padded = np.zeros((2, 2, 8))
        for one, gradient in zip(padded, (d_z, d_w), strict=True):
            one[0, :pairs], one[1, :pairs] = gradient.real, gradient.imag
        out = [np.empty_like(array) for array in ctx.arrays]
        d_log_dt = discretisation.discretise_backward(
            ctx.log_dt, *ctx.arrays, pairs, 8, padded[0].ravel(), padded[1].ravel(), *out
        )
        d_log_decay, d_frequency, d_c = map(torch.from_numpy, out)
        return torch.tensor(d_log_dt, dtype=torch.float64), d_log_decay, d_frequency, d_c.view(-1, 2)


def one_channel() -> list[Tensor]:
    p = S4DParameters(*(parameter.detach().double() for parameter in layer(2, 6).parameters()))
    return [tensor[0, 0].clone().requires_grad_() for tensor in (p.log_dt, p.log_decay, p.frequency, p.c)]


def test_gradcheck_of_the_parameter_chain() -> None:
    assert torch.autograd.gradcheck(
        lambda *p: torch.cat([*map(torch.view_as_real, Discretisation.apply(*p))]), one_channel()
    )


def test_the_parameter_chain_is_the_zero_order_hold() -> None:
    log_dt, log_decay, frequency, c = one_channel()
    z, weights = Discretisation.apply(log_dt, log_decay, frequency, c)
    one = S4DParameters(*(tensor[None, None] for tensor in (log_dt, log_decay, frequency, c)), torch.zeros(1, 1))
    expected_z, expected_weights, *_ = discretise(one)
    torch.testing.assert_close(z, expected_z[0, 0], rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(weights, expected_weights[0, 0], rtol=1e-13, atol=1e-15)


def test_other_precisions_and_devices_are_plain_torchs() -> None:
    made, u = layer(4, 8), torch.zeros(1, 20, 4)
    assert made._backend(u) == "compiled"
    assert made.double()._backend(u.double()) == "chunked"
    assert made.float()._backend(u.to("meta")) == "chunked"


def test_a_trace_has_the_operator() -> None:
    made, u = layer(4, 8), torch.ones(1, 20, 4)
    with warnings.catch_warnings(action="ignore"):  # torch says that tracing ends; what fvcore counts by, it still is
        traced = torch.jit.trace(made, u, check_trace=False)
    assert "diffussm::s4d_compiled" in str(traced.graph)
    torch.testing.assert_close(traced(u), made(u), rtol=0, atol=0)


def test_stands_for_tensors_get_a_shape() -> None:
    """And what torch makes by default is float64, or on no device, elsewhere only."""
    made, u = layer(4, 8), torch.randn(1, 20, 4)
    expected = made(u)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = made(mode.from_tensor(u))
    assert (fake.shape, fake.stride(), fake.dtype) == (expected.shape, expected.stride(), expected.dtype)
    torch.set_default_dtype(torch.float64)
    try:
        torch.testing.assert_close(made(u), expected, rtol=0, atol=0)
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"):
        torch.testing.assert_close(made(u), expected, rtol=0, atol=0)


def test_a_view_that_is_only_marked_negative() -> None:
    made, u = layer(4, 8), torch.randn(1, 20, 4)
    torch.testing.assert_close(made(torch._neg_view(u)), made(-u), rtol=0, atol=0)


def test_sums_over_many_rows_round_little() -> None:
    """A skip's gradient is a sum over all B L positions."""
    u, dy = sequences(600, ONE_CHUNK + 1, 2)
    found = outputs_and_gradients(layer(2, 4), u, dy)["skip"]
    expected = torch.stack([(u * dy[..., :2]).double().sum((0, 1)), (u * dy[..., 2:]).double().sum((0, 1))])
    scale = (u * dy[..., :2]).square().sum().sqrt()  # of a random walk; sums in a row err by 8e-7 of it
    assert (found - expected).abs().max() <= 4e-7 * scale


@pytest.mark.parametrize("threads", [1, 2, 8, 64])
@pytest.mark.parametrize(("batch", "length", "width"), [(4, 4096, 64), (1, 16384, 64), (128, 64, 64), (4, 1024, 1152)])
def test_memory_is_a_few_times_that_of_the_sequences(batch: int, length: int, width: int, threads: int) -> None:
    """u, y, both gradients and the scratch of all threads: at most four times u and y."""
    block_sizes = plan.block_sizes(batch, length, width, 32, threads)
    workers = min(threads, -(-width // block_sizes.channels))
    scratch = workers * sum(plan.scratch(block_sizes, backward=True).values())
    sequences = 3 * batch * length * width
    assert 2 * sequences + scratch <= 4 * sequences


def test_scratch_is_listed_alike() -> None:
    assert arguments.Scratch._fields == plan.SCRATCH
