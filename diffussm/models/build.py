"""From a config to a model ready to train: construction, initial values, optimiser groups."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from diffussm.config import Config, ModelConfig, is_external
from diffussm.models.diffussm import DiffuSSM
from diffussm.models.dit import DiT
from diffussm.models.layers import GroupedLinear
from diffussm.models.mixers import ssm_parameters
from diffussm.rng import Stream, name_hash, normal, uniform
from diffussm.ssm.s4d import S4D


def build_model(config: Config, backend: str | None = None) -> DiT | DiffuSSM:
    """Return the config's model with its initial values, on the CPU in float32."""
    model = build_uninitialised(config.model, config.outputs, backend or config.training.backend, config.seed)
    initialise(model, config.seed)
    return model


def build_uninitialised(model: ModelConfig, outputs: int, backend: str = "auto", seed: int = 0) -> DiT | DiffuSSM:
    """Return the network without initial values, except those that an external mixer draws in its constructor."""
    if model.kind == "dit":
        return DiT(model, outputs)
    if not is_external(model.mixer):
        return DiffuSSM(model, outputs, backend)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return DiffuSSM(model, outputs, backend)


@torch.no_grad()
def initialise(model: nn.Module, seed: int) -> None:
    """Set initial values as in ViT and DiT: Xavier-uniform matrices, zero biases, N(0, 0.02) for the conditioning
    embedders, zero for every adaLN and the decoder, so that each block starts as the identity.

    The draws of a parameter depend on its name and on no other parameter."""
    s4d_layers = {name: module for name, module in model.named_modules() if isinstance(module, S4D)}
    external = isinstance(model, DiffuSSM) and is_external(model.config.mixer)
    for name, parameter in model.named_parameters():
        owner, _, leaf = name.rpartition(".")
        shape = tuple(parameter.shape)
        if external and ".mixer." in name and not isinstance(model.get_submodule(owner), (S4D, GroupedLinear)):
            continue
        if owner in s4d_layers:
            value = s4d_layers[owner].initial_values(
                leaf, _draw(uniform, seed, name, shape), _draw(normal, seed, name, shape)
            )
        elif leaf == "bias" or "adaLN_modulation" in owner or owner.endswith("final_layer.linear"):
            value = torch.zeros(shape)
        elif "t_embedder" in owner or "y_embedder" in owner:
            value = 0.02 * _draw(normal, seed, name, shape)
        else:
            value = _xavier_limit(parameter) * (2 * _draw(uniform, seed, name, shape) - 1)
        parameter.copy_(value)


def _xavier_limit(weight: Tensor) -> float:
    """Return the bound of Xavier-uniform values for a matrix, a stack of matrices, or a convolution kernel on patches,
    which is one matrix."""
    matrix = weight.flatten(1) if weight.dim() == 4 else weight
    return (6 / (matrix.shape[-1] + matrix.shape[-2])) ** 0.5


def _draw(distribution: Callable[..., Any], seed: int, name: str, shape: tuple[int, ...]) -> Tensor:
    drawn = distribution(seed, Stream.INIT, name_hash(name), 0, 1, shape)[0]
    return torch.from_numpy(drawn)


def parameter_groups(model: nn.Module, lr: float, ssm_lr_scale: float, weight_decay: float) -> Iterator[dict[str, Any]]:
    """Yield the optimiser's parameter groups: state-space parameters have their own learning rate and no weight decay;
    all others come first."""
    ssm = ssm_parameters(model)
    ssm_ids = {id(p) for p in ssm}
    rest = [p for p in model.parameters() if id(p) not in ssm_ids]
    yield {"params": rest, "lr": lr, "weight_decay": weight_decay}
    if ssm:
        yield {"params": ssm, "lr": lr * ssm_lr_scale, "weight_decay": 0.0}
