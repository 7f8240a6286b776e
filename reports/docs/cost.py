"""The page of what models cost, in closed form beside what is published and what counters report: docs/cost.md.

`make docs` counts first (docs/cost_audit.csv) and then writes the page; the page itself needs no torch.
"""

import sys
from pathlib import Path
from typing import Any

import pandas as pd

from diffussm.config import Checkpointing, Config, resolve
from diffussm.cost.closed_form import forward_macs, parameters
from diffussm.cost.memory.account import Account, account, total
from diffussm.cost.memory.fit import GB
from diffussm.cost.named import BASE, LATENT_FACTOR, NAMED, configs, named_config
from diffussm.cost.tables import cost
from diffussm.tables import format_count
from reports import markdown as md
from reports.paper.figure_3 import reported_macs
from reports.paper.published import PUBLISHED

ROOT = Path(__file__).parents[2]
AUDIT = ROOT / "docs" / "cost_audit.csv"
WITH_MEMORY = [*(name for name in NAMED if not name.endswith(("/4", "/8"))), "DiffuSSM-XL/M1"]
REPORTED_PARAMETERS_M = 673  # millions, of DiffuSSM-XL, about

PAGE = """# What the models cost

Written by `make docs`. MACs are multiply-adds counted once, of a forward call on one image; FLOPs are twice as
many, and what papers print as Gflops are mostly MACs. `diffussm cost MODEL` gives the same for any model.

## Parameters of DiffuSSM-XL

{xl_parameters}
The paper reports about 673 M. No interpretation of the paper gives this number: the formula that it prints for a
block falls short by {short:.0f} M, the shapes that its own equations need exceed it by {over:.0f} M, and 14 D^2,
which comes nearest, would leave out W_0, the first dense layer of a block, which its count of MACs has. Each
total has 3 D^2 of conditioning in a block, S4D with N = 64, and the embeddings. The same shapes give the paper's
formula of MACs exactly, so they are what is built.

## DiT, beside its own paper

{dit}
The paper prints two digits after the point: so for S/8 (0.36) rounding alone explains up to 1.4 %. XL/2 at 512
pixels: {xl_512:.1f} G.

## DiffuSSM, beside its paper's formula

The paper counts 13 (L/M) D^2 + L D^2 for the dense products of a block. XL at 256 pixels, in G MACs:

{hourglass}
## DiffuSSM-XL, beside what its paper's table implies

{implied}
The paper prints total Gflops and numbers of images. From 256 to 512 pixels their quotient grows {growth:.2f}-fold,
while by its own formula, and by any count of its layers, every part that matters grows fourfold or more: so at
least one of the two totals is not this model's multiply-adds; our count is fitted to neither.

## All named models

`256` is a latent of a 256 x 256 image, `128px` an image of 128 x 128 pixels without an autoencoder. Sampling takes
250 calls, without guidance; a training step is of 256 images, forward and backward. "Executed" is what the default
backend really computes on an image, "fixed" what it does once per call, whatever the batch.

{named}
## Memory of training

GB (10^9 bytes) of one of eight GPUs that share a batch of 256 images, at 256 pixels: 32 images at once, or 16
(`micro_batch`), or with each block computed again in the backward pass (`checkpointing`). The state is weights,
moments, moving average and DDP's buckets, in float32 in any precision; activations are what autograd keeps of a
forward pass. The peak includes temporary tensors, four of the size of the mixer's input. `diffussm cost MODEL
--memory` lists every part, for any config; a plan for a cluster says whether its runs fit.

Tests compare these sizes, to the byte, with those of the tensors that autograd's hooks see: on CPUs, and for GPUs with
fake tensors, as CUDA's autocast keeps other tensors than that of CPUs. What CUDA, NCCL and the allocator take for
themselves is not included; a GPU sold with 80 GB has 85.9.

{memory}
## The audit

Three counts of the same call, of what the backend executes: the closed form; fvcore on the traced model, with
custom op handles; torch's `FlopCounterMode`, which counts matrix products and attention only and so is compared
with those alone. Residues are relative to the closed form. That of fvcore for S4D by FFT is the skip, a product of
real numbers element by element, which no counter counts.

{audit}"""


def page(audit: pd.DataFrame) -> str:
    readings, implied = xl_parameters(), _implied_gmacs()
    return PAGE.format(
        xl_parameters=md.table(readings),
        short=REPORTED_PARAMETERS_M - parameters_of_xl(13),
        over=parameters_of_xl(15) - REPORTED_PARAMETERS_M,
        dit=md.table(dit_table()),
        xl_512=_gmacs(_at("DiT-XL/2", 512)),
        hourglass=md.table(hourglass_table()),
        implied=md.table(implied_table()),
        growth=implied[512] / implied[256],
        named=md.table(named_table()),
        memory=md.table(memory_table()),
        audit=md.table(audit_table(audit)),
    )


def xl_parameters() -> pd.DataFrame:
    """DiffuSSM-XL's parameters by each reading of the paper: ours, and ours with other matrices in a block."""
    rows = []
    for reading, matrices in (
        ("as printed, 9 D^2 + 2 M D^2", 13),
        ("one D x D matrix fewer than the shapes", 14),
        ("the shapes of its equations, 13 D^2 + M D^2 (built here)", 15),
    ):
        millions = parameters_of_xl(matrices)
        rows.append(
            {
                "a block at M = 2": reading,
                "weights per block, in D^2": matrices,
                "parameters": f"{millions:.1f} M",
                "against 673 M": f"{100 * (millions / REPORTED_PARAMETERS_M - 1):+.1f} %",
            }
        )
    return pd.DataFrame(rows)


def parameters_of_xl(matrices: int) -> float:
    """Millions, if a block at M = 2 had so many D x D matrices; it has 15."""
    config = named_config("DiffuSSM-XL")
    return (parameters(config) - (15 - matrices) * config.model.depth * config.model.width**2) / 1e6


def dit_table() -> pd.DataFrame:
    rows = []
    for row in pd.read_csv(PUBLISHED / "dit.csv").to_dict("records"):
        config = named_config(row["model"])
        gmacs = _gmacs(config)
        rows.append(
            {
                "model": row["model"],
                "parameters, M": f"{parameters(config) / 1e6:.1f}",
                "published": row["params_m"],
                "G MACs": f"{gmacs:.3f}",
                "published Gflops": f"{row['gmacs_256']:.2f}",
                "difference": f"{100 * (gmacs / row['gmacs_256'] - 1):+.2f} %",
            }
        )
    return pd.DataFrame(rows)


def hourglass_table() -> pd.DataFrame:
    rows = []
    for ratio in (1, 2, 4, 8):
        config = resolve(BASE, {"model.hourglass": ratio})
        m, dense, every = config.model, forward_macs(config).dense / 1e9, _gmacs(config)
        formula = m.depth * (13 * m.length // ratio + m.length) * m.width**2 / 1e9
        rows.append(
            {
                "M": ratio,
                "29 blocks by the formula": f"{formula:.2f}",
                "conditioning, embedding, decoder": f"{dense - formula:.2f}",
                "mixers": f"{every - dense:.2f}",
                "all": f"{every:.2f}",
            }
        )
    return pd.DataFrame(rows)


def implied_table() -> pd.DataFrame:
    rows = []
    for resolution, implied in _implied_gmacs().items():
        config = _at("DiffuSSM-XL", resolution)
        m, ours = config.model, _gmacs(config)
        rows.append(
            {
                "pixels": resolution,
                "reported total / images, G": f"{implied:.1f}",
                "ours, G": f"{ours:.1f}",
                "of them 29 x 7.5 L D^2": f"{m.depth * 7.5 * m.length * m.width**2 / 1e9:.1f}",
                "difference": f"{100 * (ours / implied - 1):+.1f} %",
            }
        )
    return pd.DataFrame(rows)


def named_table() -> pd.DataFrame:
    rows = []
    for name in NAMED:
        for resolution, config in configs(name, (), {}).items():
            row = cost(name, resolution, config)
            rows.append(
                {
                    "model": name,
                    "pixels": resolution,
                    "L": row["tokens"],
                    "parameters": format_count(row["parameters"]),
                    "MACs per call": format_count(row["macs_per_call"]),
                    "mixer": format_count(row["mixer_macs"]),
                    "executed": format_count(row["executed_macs_per_call"]),
                    "fixed": format_count(row["macs_fixed_per_call"]),
                    "MACs per image sampled": format_count(row["macs_per_image"]),
                    "MACs per training step": format_count(row["macs_per_training_step"]),
                }
            )
    return pd.DataFrame(rows)


def memory_table() -> pd.DataFrame:
    rows = []
    for name in WITH_MEMORY:
        config = named_config(name)
        plain, halved, again, exact = (
            _account(config),
            _account(config, micro_batch=16),
            _account(config, checkpointing="block"),
            _account(named_config(name, {"training.precision": "float32"})),
        )
        rows.append(
            {
                "model": name,
                "state": _gigabytes(total(plain.state)),
                "activations": _gigabytes(total(plain.activations)),
                "peak": _gigabytes(plain.peak),
                "micro_batch = 16": _gigabytes(halved.peak),
                "checkpointing = block": _gigabytes(again.peak),
                "float32": _gigabytes(exact.peak),
            }
        )
    return pd.DataFrame(rows)


def _account(config: Config, micro_batch: int = 0, checkpointing: Checkpointing = "none") -> Account:
    found = account(config, 8, micro_batch, checkpointing)
    assert found is not None
    return found


def _gigabytes(size: int) -> str:
    return f"{size / GB:.1f}"


def audit_table(audit: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "model": audit.model,
            "backend": audit.backend.fillna(""),
            "closed form": audit.per_image.map(format_count),
            "fvcore": audit.per_image_fvcore.map(format_count),
            "residue": audit.residue_fvcore.map(_percent),
            "fixed": audit.fixed.map(format_count),
            "fixed, fvcore": audit.fixed_fvcore.map(format_count),
            "products": audit.products.map(format_count),
            "torch": audit.products_torch.map(format_count),
            "residue of torch": audit.residue_torch.map(_percent),
        }
    )


def _percent(share: float) -> str:
    return "0" if share == 0 else f"{100 * share:+.4f} %"


def _gmacs(config: Config) -> float:
    total = forward_macs(config).total
    assert total is not None
    return total / 1e9


def _at(name: str, resolution: int) -> Config:
    return named_config(name, {"model.image_size": resolution // LATENT_FACTOR})


def _implied_gmacs() -> dict[Any, float]:
    """Resolution -> G MACs of a call as DiffuSSM's paper implies them."""
    table = reported_macs()
    theirs = table[table.name == "DiffuSSM-XL, reported total / images"]
    return dict(zip(theirs.resolution, theirs.macs_per_call / 1e9, strict=True))


def main() -> int:
    (ROOT / "docs" / "cost.md").write_text(page(pd.read_csv(AUDIT)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
