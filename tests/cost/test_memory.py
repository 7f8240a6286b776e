"""The memory account beside what autograd really keeps, to the byte where the formulas are exact."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_leaves

from diffussm.config import Config, parse_settings, resolve
from diffussm.cost.closed_form import parameters
from diffussm.cost.memory.account import Account, account, total
from diffussm.cost.named import named_config
from diffussm.models.build import build_model
from diffussm.training.state import TrainingState
from tests.support.costs import WITHOUT_MACS
from tests.support.named import named
from tests.support.peak_bytes import peak_of_a_step
from tests.support.saved_bytes import SavedBytes, saved_bytes

IMAGES = 3
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "S4D compiled": ({}, "compiled"),
    "S4D in one chunk": ({}, "chunked"),
    "S4D in chunks": ({"model.image_size": 12}, "chunked"),
    "S4D forward in chunks": ({"model.image_size": 12, "model.direction": "forward"}, "chunked"),
    "S4D by FFT": ({}, "fft"),
    "S4D forward by FFT": ({"model.direction": "forward"}, "fft"),
    "S4D position by position": ({"model.patch": 4}, "reference"),
    "residual at full length": ({"model.residual": "full", "model.scan": "hilbert"}, "compiled"),
    "M = 1": ({"model.hourglass": 1}, "compiled"),
    "M = 1, residual at full length": ({"model.hourglass": 1, "model.residual": "full"}, "compiled"),
    "M = 8": ({"model.hourglass": 8}, "compiled"),
    "attention": ({"model.mixer": "attention"}, "auto"),
    "a copy": ({"model.mixer": "identity"}, "auto"),
    "DiT /1": ({"model.kind": "dit"}, "auto"),
    "DiT /2": ({"model.kind": "dit", "model.patch": 2}, "auto"),
    "unconditional": ({"model.classes": 0, "evaluation.metrics": ["fid"]}, "compiled"),
    "fixed variance": ({"diffusion.learned_variance": False, "diffusion.loss": "simple"}, "compiled"),
    "tanh in the loss": ({"diffusion.normal_cdf": "tanh"}, "compiled"),
}
HALF_ON_CPUS = ("S4D compiled", "residual at full length", "attention", "DiT /2", "unconditional")
FEW_BYTES = 100  # states of the random generators of attention kernels


def tiny(overrides: dict[str, Any], precision: str) -> Config:
    return resolve("digits", {"model.depth": 2, "training.batch": IMAGES, "training.precision": precision, **overrides})


def compare(found: Account, saved: SavedBytes) -> None:
    """Compare by groups of parts; the condition is what the first block's activation keeps."""
    condition = "blocks.0.adaLN_modulation.0"
    approx = partial(pytest.approx, rel=0, abs=FEW_BYTES)
    embeddings = saved.of("x_embedder", "t_embedder", "y_embedder") + saved.by_module[condition]
    assert activations(found, "x_embedder", "t_embedder", "y_embedder", "condition") == embeddings
    assert activations(found, "block.mixer") == approx(saved.of(*(f"blocks.{block}.mixer" for block in range(2))))
    assert activations(found, "block") == approx(saved.of("blocks") - saved.by_module[condition])
    assert activations(found, "final_layer") == saved.of("final_layer")
    assert activations(found, "loss") == saved.of("loss")
    assert activations(found, "") == approx(saved.by_module.total())


def activations(found: Account, *parts: str) -> int:
    return sum(row.total for row in found.activations if row.part.startswith(parts))


def known(config: Config, **how: Any) -> Account:
    found = account(config, **how)
    assert found is not None
    return found


# Activations


@pytest.mark.parametrize(("overrides", "backend"), CASES.values(), ids=CASES)
def test_activations_in_float32(overrides: dict[str, Any], backend: str) -> None:
    config = tiny(overrides, "float32")
    compare(known(config, backend=backend, device="cpu"), saved_bytes(config, backend, IMAGES))


@pytest.mark.parametrize("name", HALF_ON_CPUS)
def test_activations_in_bf16_on_cpus(name: str) -> None:
    overrides, backend = CASES[name]
    config = tiny(overrides, "bf16")
    compare(known(config, backend=backend, device="cpu"), saved_bytes(config, backend, IMAGES))


@pytest.mark.parametrize(("overrides", "backend"), CASES.values(), ids=CASES)
def test_activations_in_bf16_on_gpus(overrides: dict[str, Any], backend: str) -> None:
    config, on_gpu = tiny(overrides, "bf16"), backend.replace("compiled", "fft")
    compare(known(config, backend=on_gpu), saved_bytes(config, on_gpu, IMAGES, "cuda"))


@pytest.mark.parametrize("name", ["attention", "DiT /1"])
def test_activations_in_float32_on_gpus(name: str) -> None:
    config = tiny(CASES[name][0], "float32")
    compare(known(config), saved_bytes(config, "auto", IMAGES, "cuda"))


def test_tf32_keeps_what_float32_keeps() -> None:
    assert known(tiny({}, "tf32")) == known(tiny({}, "float32"))


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("name", ["S4D compiled", "residual at full length", "DiT /1"])
def test_with_checkpointing_a_block_keeps_its_input(name: str, precision: str) -> None:
    """And what the backward pass makes again of one block is what it kept, without its input."""
    overrides, backend = CASES[name]
    config = tiny(overrides, precision)
    how = {"backend": backend, "device": "cpu"}
    plain, found = known(config, **how), known(config, checkpointing="block", **how)
    (again,) = [row for row in found.activations if row.part == "block (one, computed again)"]
    (stored,) = [row for row in found.activations if row.part == "block (its input)"]
    saved = saved_bytes(config, backend, IMAGES, checkpointing=True)
    assert activations(found, "") - again.total == saved.by_module.total()
    assert again.total == activations(plain, "block.") // 2 - stored.bytes


def test_with_checkpointing_autocast_holds_all_weights_in_bf16_until_the_forward_pass_ends() -> None:
    config = tiny({"model.depth": 30, "model.image_size": 4, "model.mixer": "identity"}, "bf16")
    found = known(config, checkpointing="block")
    (again,) = [row for row in found.activations if row.part == "block (one, computed again)"]
    d = config.model.width
    assert again.total == 30 * 2 * (3 + 1 + 2 + 4 + 2 + 4 + 2) * d**2


def test_a_mixer_from_outside_does_not_say_what_it_keeps() -> None:
    assert account(resolve("digits", parse_settings([WITHOUT_MACS]))) is None


# State


@pytest.mark.parametrize("kind", ["diffussm", "dit"])
def test_the_state_of_a_training(kind: str) -> None:
    config = resolve("digits", {"model.kind": kind})
    state = TrainingState(build_model(config), config.training)
    for parameter in state.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    state.optimiser.step()
    moments = [m for m in tree_leaves(state.optimiser.state_dict()) if m.dim()]  # without the numbers of steps
    rows = {row.part: row.total for row in known(config).rows}
    assert rows["weights"] == rows["gradients"] == size(state.model.parameters())
    assert rows["moments"] == size(moments)
    assert rows["EMA"] == size(state.ema.weights)


def size(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def test_a_batch_is_shared_among_processes_and_cut_into_micro_batches() -> None:
    config = resolve("digits", {"training.batch": 50})
    assert [(a.images, a.micro_batches) for a in (known(config), known(config, processes=4))] == [(50, 1), (13, 1)]
    micro = known(config, processes=4, micro_batch=5)
    assert (micro.images, micro.micro_batches) == (5, 3)
    assert known(config, micro_batch=100).images == 50
    of_config = known(resolve("digits", {"training.batch": 50, "training.micro_batch": 20}))
    assert (of_config.images, of_config.micro_batches) == (17, 3)  # 17, 17 and 16


@pytest.mark.parametrize(
    ("processes", "micro_batch", "buckets", "gradients"), [(1, 0, 0, 1), (2, 0, 1, 0), (1, 6, 0, 1), (2, 3, 1, 1)]
)
def test_gradients_are_in_buckets_or_by_themselves_or_both(
    processes: int, micro_batch: int, buckets: int, gradients: int
) -> None:
    config = resolve("digits", {"training.batch": 12})
    found = known(config, processes=processes, micro_batch=micro_batch)
    weights = 4 * parameters(config)
    assert found.gradients.total == gradients * weights
    state = (4 + buckets + gradients) * weights
    assert found.peak == state + activations(found, "") + found.temporaries.total


@pytest.mark.parametrize("overrides", [{}, {"model.kind": "dit"}, {"model.mixer": "attention"}], ids=str)
def test_a_step_takes_what_the_account_has(overrides: dict[str, Any]) -> None:
    """Activations, gradients and temporary tensors at the worst moment; the account has a little more."""
    large = {"model.image_size": 16, "model.depth": 4, "training.batch": 8}
    config = resolve("digits", {**large, **overrides})
    found = known(config, backend="compiled", device="cpu")
    peak = peak_of_a_step(config, "compiled")
    assert peak < found.peak - total(found.state) < 1.1 * peak


def test_ddp_has_gradients_beside_its_buckets_between_micro_batches(tmp_path: Path) -> None:
    """The assumption behind the account of several processes that accumulate gradients."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        network = DistributedDataParallel(nn.Linear(8, 8), gradient_as_bucket_view=True)
        x = torch.ones(1, 8)
        for _ in range(2):  # after the first pass the buckets are made anew
            network(x).sum().backward()
        buckets = storages(network)
        network.zero_grad()
        with network.no_sync():
            network(x).sum().backward()
        assert storages(network).isdisjoint(buckets)
        network(x).sum().backward()
        assert storages(network) == buckets
    finally:
        torch.distributed.destroy_process_group()


def storages(network: nn.Module) -> set[int]:
    return {p.grad.untyped_storage().data_ptr() for p in network.parameters() if p.grad is not None}


# In full size


@pytest.mark.slow
def test_s_at_32_images() -> None:
    config = named("DiffuSSM-S", image_size=16)
    config = config.model_copy(update={"training": config.training.model_copy(update={"batch": 32})})
    compare_total(config, "compiled", 32, "cpu")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["compiled", "fft"])
def test_xl_of_one_block(backend: str) -> None:
    compare_total(named("DiffuSSM-XL", depth=1), backend, 2, "cpu")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "backend"), [("DiffuSSM-XL", "chunked"), ("DiffuSSM-XL", "fft"), ("DiT-XL/2", "auto")]
)
def test_xl_in_bf16_on_a_gpu(name: str, backend: str) -> None:
    compare_total(named(name), backend, 32, "cuda")


@pytest.mark.slow
def test_xl_in_float32_without_memory() -> None:
    config = named_config("DiffuSSM-XL", {"training.precision": "float32"})
    compare_total(config, "fft", 32, "meta")


def compare_total(config: Config, backend: str, images: int, device: str) -> None:
    found = known(config, micro_batch=images, backend=backend, device="cuda" if device == "cuda" else "cpu")
    saved = saved_bytes(config, backend, images, device).by_module.total()
    assert activations(found, "") == pytest.approx(saved, rel=0.001)
