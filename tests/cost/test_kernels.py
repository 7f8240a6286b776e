"""`diffussm cost --kernels`: launches, bytes and FLOPs, by hand where there are few, and what they do not grow with."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffussm.cost import command, tables
from diffussm.cost.kernels import IN_BLOCKS, Counter, Run, block_runs, gpu_without_values, passes
from diffussm.cost.named import named_config
from diffussm.errors import UserError
from diffussm.models.diffussm import Block
from diffussm.ssm.chunked.portable import in_blocks
from diffussm.ssm.inside import InsideOperators
from diffussm.ssm.s4d import S4D
from tests.support.costs import COLUMNS

SMALL = {"model.width": 32, "model.state": 8, "model.depth": 1}


def runs(side: int, precision: str = "bf16", images: int = 2, **more: Any) -> dict[tuple[str, str, str], Run]:
    settings = {**SMALL, "model.image_size": side, "training.precision": precision, **more}
    return block_runs(named_config("DiffuSSM-XL", settings), images)


def test_a_linear_layer_by_hand() -> None:
    """32 positions, 4 -> 8 numbers: one product each way for output, weights and input, and the sum for the bias."""
    with gpu_without_values():
        found = passes(nn.Linear(4, 8), "float32", torch.empty(32, 4))
    x, w, y = 4 * 32 * 4, 4 * 4 * 8, 4 * 32 * 8
    bias, flops = 4 * 8, 2 * 32 * 4 * 8
    assert found["forward"] == Run(1, x + w + bias + y, flops)
    assert found["backward"] == Run(3, (y + w + x) + (y + x + w) + (y + bias), 2 * flops)


def test_autocast_casts_the_input_the_weights_and_their_gradients() -> None:
    with gpu_without_values():
        plain, cast = (passes(nn.Linear(4, 8), one, torch.empty(32, 4)) for one in ("float32", "bf16"))
    assert cast["forward"].launches == plain["forward"].launches + 3
    assert cast["backward"].launches == plain["backward"].launches + 3
    assert cast["forward"].flops == plain["forward"].flops


class Rows(nn.Module):
    """Views, new memory and broadcasts."""

    def forward(self, x: Tensor) -> Tensor:
        row = x[0].expand_as(x)
        return torch.empty_like(x).copy_(row).view(-1)


def test_views_and_new_memory_are_no_launches_and_a_broadcast_is_read_once() -> None:
    with gpu_without_values():
        assert passes(Rows(), "float32", torch.empty(16, 4))["forward"] == Run(1, 4 * 4 + 4 * 64, 0)


def test_the_backward_pass_is_that_of_autograd() -> None:
    """On CPUs, where there is one to compare with."""
    config = named_config("DiffuSSM-XL", {**SMALL, "model.image_size": 12})
    block, inputs = Block(config.model, "chunked"), (torch.zeros(2, 72, 32), torch.zeros(2, 32))
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    found = passes(block, "float32", *inputs)["backward"]
    y = block(*(x.requires_grad_() for x in inputs))
    dy = torch.zeros_like(y)
    with Counter() as counter, InsideOperators():
        torch.autograd.grad(y, [*inputs, *block.parameters()], dy)
    assert found == counter.run


@pytest.mark.parametrize("precision", [pytest.param("float32", marks=pytest.mark.slow), "bf16"])
def test_products_outside_of_the_mixer_are_those_of_the_closed_form(precision: str) -> None:
    config = named_config("DiffuSSM-XL", {**SMALL, "model.image_size": 16})
    macs = {part["part"]: part["macs_of_one"] for part in tables.part_rows(config)}
    dense = sum(count for part, count in macs.items() if part.startswith("block.") and part != "block.mixer")
    found = runs(16, precision, images=3)
    for backend in ("chunked", IN_BLOCKS):
        forward, backward = (
            found[backend, "block", one].flops - found[backend, "mixer", one].flops for one in ("forward", "backward")
        )
        assert (forward, backward) == (2 * 3 * dense, 4 * 3 * dense)


def launches_of_mixer(length: int, width: int = 8, images: int = 2) -> tuple[int, int]:
    with gpu_without_values():
        u = torch.empty(images, length, width, dtype=torch.bfloat16)
        found = passes(S4D(width, 4, True, "chunked"), "bf16", u)
    return found["forward"].launches, found["backward"].launches


@pytest.mark.slow
def test_launches_of_the_form_for_gpus_grow_with_levels_of_groups_alone() -> None:
    """2, 8 and 18 or 32 chunks, these in groups."""
    short, long, grouped, more = map(launches_of_mixer, (256, 1024, 2304, 4096))
    assert short == long
    assert grouped == more
    assert all(one < two <= one + 40 for one, two in zip(short, grouped, strict=True))
    assert launches_of_mixer(256, width=200, images=16) == short
    with in_blocks():
        assert launches_of_mixer(4096)[0] > 2 * launches_of_mixer(1024)[0]


def test_the_command_has_a_row_for_each_pass_and_their_sum() -> None:
    (found,) = json.loads(command.report(["DiffuSSM-XL"], ("64",), SMALL, False, False, True, None, 2))
    assert list(found) == [*COLUMNS, "kernels"]
    rows = found["kernels"]
    assert [(row["part"], row["pass"]) for row in rows[:6]] == [
        (part, one) for part in ("block", "mixer") for one in ("forward", "backward", "both")
    ]
    assert {row["backend"] for row in rows} == {"chunked", IN_BLOCKS}
    for forward, backward, both in zip(*(rows[start::3] for start in range(3)), strict=True):
        assert all(forward[name] + backward[name] == both[name] for name in Run._fields)


def test_the_command_shows_a_table() -> None:
    by_fft = {**SMALL, "training.backend": "fft"}
    text = command.report(["DiffuSSM-XL"], ("64",), by_fft, False, False, False, None, 2)
    assert "DiffuSSM-XL at 64, 2 images\nbackend  part   pass      launches" in text


@pytest.mark.slow
def test_the_table_of_the_page() -> None:
    """Its columns: length and images, part, passes; launches, GB and GFLOP, each before and now."""
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    written = [line.replace(",", "").split("|")[1:-1] for line in re.findall(r"^\| (?:1024|4096), .*$", page, re.M)]
    counted = []
    for side, images in ((32, 32), (64, 8)):
        found = block_runs(named_config("DiffuSSM-XL", {"model.image_size": side}), images)
        for part in ("mixer", "block"):
            before, now = (
                [found[backend, part, one] for one in ("forward", "backward")] for backend in (IN_BLOCKS, "chunked")
            )
            for passes_, pairs in (("forward", (before[0], now[0])), ("both", (sum_of(before), sum_of(now)))):
                numbers = [
                    *(f"{run.launches}" for run in pairs),
                    *(f"{run.bytes / 1e9:.1f}" for run in pairs),
                    *(f"{run.flops / 1e9:.0f}" for run in pairs),
                ]
                counted.append([f"{side**2} {images}", {"mixer": "S4D"}.get(part, part), passes_, *numbers])
    assert [[cell.strip() for cell in row] for row in written] == counted


def sum_of(passes: list[Run]) -> Run:
    forward, backward = passes
    return forward + backward


def test_other_blocks_are_not_counted() -> None:
    with pytest.raises(UserError, match=r"^--kernels: counts blocks of DiffuSSM with S4D$"):
        block_runs(named_config("DiT-S/8"), 2)
