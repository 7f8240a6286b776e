"""Checks of an external mixer: shape, independence of samples, initial values, gradients, direction and cost.

In a test, call `diffussm.check_mixer("my_mixers:GatedLinearAttention")`; on the command line,
`diffussm check-mixer my_mixers:GatedLinearAttention`.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from diffussm.config import Config, resolve
from diffussm.cost.counted import fvcore_counts
from diffussm.models.build import build_model
from diffussm.models.mixers import directions, external_macs, external_parameters, mixer_class


class MixerFault(AssertionError):
    """A mixer failed a check; the message says which and how."""


def check_mixer(name: str, width: int = 16, heads: int = 2) -> list[str]:
    """Check the mixer `package.module:Class` on 4 x 4 tokens of `width`; return the findings, one sentence each.

    Raises MixerFault for the first check that fails.
    """
    findings = []
    for direction in directions(mixer_class(name)):
        model = {"mixer": name, "width": width, "heads": heads, "patch": 2, "direction": direction}
        config = resolve("digits", {f"model.{field}": value for field, value in model.items()})
        for check in (_shape, _no_leakage, _seeded, _gradient, _direction, _cost):
            findings += [f"{direction}: {sentence}" for sentence in check(config)]
    return findings


def _mixer(config: Config) -> nn.Module:
    blocks: list[nn.Module] = list(build_model(config).get_submodule("blocks").children())
    return blocks[0].get_submodule("mixer")


def _input(config: Config, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, config.model.length, config.model.width, generator=generator)


def _shape(config: Config) -> Iterator[str]:
    u, y = _input(config), _mixer(config)(_input(config))
    expected = (*u.shape[:2], 2 * u.shape[2])
    shape = tuple(y.shape)
    _require(
        shape == expected, f"for u of shape {tuple(u.shape)}, y has shape {shape}, expected (B, L, 2D) = {expected}"
    )
    _require(bool(y.isfinite().all()), "y is not finite")
    yield f"u of shape {tuple(u.shape)} gives y of shape {shape}"


def _no_leakage(config: Config) -> Iterator[str]:
    mixer, u = _mixer(config), _input(config)
    other = u.clone()
    other[1] += 1
    _require(torch.equal(mixer(u)[0], mixer(other)[0]), "a sample's output depends on another sample of the batch")
    yield "no leakage between samples of a batch"


def _seeded(config: Config) -> Iterator[str]:
    one, two = _mixer(config).state_dict(), _mixer(config).state_dict()
    same = all(torch.equal(one[name], two[name]) for name in one)
    _require(same, "initial values are not drawn from torch's default generator: two builds with one seed differ")
    yield "initial values follow the seed"


def _gradient(config: Config) -> Iterator[str]:
    mixer = _mixer(config).double()
    names = [name for name, _ in mixer.named_parameters()]

    def function(u: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(mixer, dict(zip(names, values, strict=True)), (u,))

    u = _input(config, 1).double().requires_grad_()
    values = [p.detach().clone().requires_grad_() for p in mixer.parameters()]
    try:
        torch.autograd.gradcheck(function, (u, *values), fast_mode=True)
    except RuntimeError as error:
        raise MixerFault(f"gradients differ from finite differences: {str(error).splitlines()[0]}") from None
    yield f"gradients of the input and of {len(values)} parameters match finite differences"


def _direction(config: Config) -> Iterator[str]:
    mixer, u = _mixer(config), _input(config)
    position = config.model.length // 2
    changed = u.clone()
    changed[:, position] += 1
    affected = (mixer(changed) - mixer(u)).abs().amax((0, 2)) > 1e-6
    before, after = bool(affected[:position].any()), bool(affected[position + 1 :].any())
    if config.model.direction == "forward":
        _require(not before, "an output depends on a later position, though the direction is forward")
        _require(after, "no output depends on an earlier position")
        yield "outputs depend on earlier positions only"
    else:
        _require(before and after, "outputs do not depend on both sides, though the direction is bidirectional")
        yield "outputs depend on earlier and later positions"


def _cost(config: Config) -> Iterator[str]:
    mixer = _mixer(config)
    parameters = sum(p.numel() for p in mixer.parameters())
    on_meta = external_parameters(config.model)
    _require(on_meta == parameters, f"it has {on_meta:,} parameters on the meta device, but {parameters:,} on the CPU")
    yield f"{parameters:,} parameters"
    stated = external_macs(config.model)
    statement = "no MACs, so plans show them as unknown" if stated is None else f"{stated:,} MACs"
    try:
        counts = [sum(fvcore_counts(mixer, (_input(config, n),))[""].values()) for n in (1, 2)]
    except Exception as error:  # an external class may raise anything under a tracer
        yield f"states {statement}; check the number by hand, because its call cannot be traced ({error})"
        return
    counted = round(counts[1] - counts[0])
    if stated is not None:
        _require(stated >= 0.99 * counted, f"states {stated:,} MACs, but {counted:,} are counted")
    yield f"states {statement}; {counted:,} are counted, excluding element-wise products of real numbers"


def _require(holds: bool, fault: str) -> None:
    if not holds:
        raise MixerFault(fault)
