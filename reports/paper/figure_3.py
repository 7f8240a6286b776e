"""The paper's Figure 3 in closed form: multiply-adds over resolution. It needs no run."""

from pathlib import Path
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from diffussm.config import resolve
from diffussm.cost.closed_form import attention_products, forward_macs, parameters
from diffussm.cost.named import BASE, LATENT_FACTOR
from reports import markdown as md
from reports import style
from reports.paper.published import PUBLISHED

RESOLUTIONS = (256, 512, 1024, 2048)
MODELS: dict[str, dict[str, Any]] = {
    "DiT-XL/1": {"model.kind": "dit", "model.patch": 1},
    "DiT-XL/2": {"model.kind": "dit", "model.patch": 2},
    "DiffuSSM-XL with attention, M = 2": {"model.mixer": "attention", "model.hourglass": 2},
    "DiffuSSM-XL, M = 1": {"model.hourglass": 1},
    "DiffuSSM-XL, M = 2": {"model.hourglass": 2},
}


def report(out: Path) -> list[Path]:
    """Write figure_3.csv, .md and .png; returns the files to look at."""
    costs, reported = figure_3(), reported_macs()
    style.save_table(pd.concat([costs, reported.rename(columns={"name": "model"})]), out / "figure_3.csv")
    style.save(_draw(costs, reported), out / "figure_3.png")
    giga = costs.assign(gmacs=(costs.macs_per_call / 1e9).round(1), parameters=costs.parameters.map("{:,}".format))
    wide = giga.pivot(index=["model", "parameters"], columns="resolution", values="gmacs")
    theirs = reported.assign(gmacs=(reported.macs_per_call / 1e9).round(1))[["name", "resolution", "gmacs"]]
    text = (
        "# MACs over resolution (the paper's Figure 3)\n\n"
        "G multiply-adds of a call on one image, counted once, on latents with an eighth of the pixels per side.\n\n"
        f"{md.table(wide.loc[list(MODELS)].reset_index())}\n"
        "Attention in the block is counted with its projections, 5 L D^2 + 2 D L^2; the paper counts 2 D L^2 alone: "
        "column `attention_products` of the CSV.\n\nAs reported, or as the reported totals imply:\n\n"
        f"{md.table(theirs)}\n{_disagreements(costs)}"
    )
    style.save_text(text, out / "figure_3.md")
    return [out / "figure_3.md", out / "figure_3.png"]


def _draw(costs: pd.DataFrame, reported: pd.DataFrame) -> Figure:
    """Return the paper's Figure 3: G MACs of a call on one image over pixels per side, with tokens above; both axes
    log.

    costs: model, resolution, tokens, macs_per_call; reported: name, resolution, macs_per_call.
    """
    figure, axis = style.subplots(figsize=(5.5, 3.8))
    shown = costs.assign(gmacs=costs.macs_per_call / 1e9)
    sns.lineplot(shown, x="resolution", y="gmacs", hue="model", style="model", marker="o", ax=axis)
    for marker, (name, points) in zip("x+", reported.groupby("name"), strict=True):
        axis.scatter(points.resolution, points.macs_per_call / 1e9, marker=marker, color="black", zorder=5, label=name)
    ticks = sorted(shown.resolution.unique())
    axis.set(xscale="log", yscale="log", xlabel="pixels per side", ylabel="G MACs per image and call")
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.minorticks_off()
    above = axis.secondary_xaxis("top")
    above.set_xlabel("L, latent tokens at patch 1")
    above.set_xticks(ticks, [f"{shown[shown.resolution == tick].tokens.max():,}" for tick in ticks])
    above.minorticks_off()
    axis.legend(title=None, fontsize=7)
    figure.tight_layout()
    return figure


def _disagreements(costs: pd.DataFrame) -> str:
    """Return sentences about numbers of the paper that disagree with one another or with its shapes."""
    table = pd.read_csv(PUBLISHED / "imagenet.csv").drop_duplicates(["model", "resolution"])
    totals = table[table.model.isin(["DiT-XL/2-G", "DiffuSSM-XL-G"])].set_index(["model", "resolution"]).total_gmacs
    fewer = (1 - totals["DiffuSSM-XL-G"] / totals["DiT-XL/2-G"]) * 100
    parameters = costs.set_index("model").parameters["DiffuSSM-XL, M = 2"].iloc[0]
    return (
        "- The text says 20 % and 25 % fewer total Gflops than DiT-XL/2 at 256 and 512 pixels; its table gives "
        f"{fewer[256]:.1f} % and {fewer[512]:.1f} %, for fewer training images at a higher cost of each.\n"
        f"- XL at M = 2 has {parameters / 1e6:.0f} M parameters by the shapes of the equations; it reports about "
        "673 M, which no reading of them gives (a block as printed: 9 D^2 + 2 M D^2; by the shapes: 13 D^2 + M D^2).\n"
    )


def figure_3() -> pd.DataFrame:
    """Return a row per (model, resolution): tokens L at patch 1, parameters, total MACs, and those of dense layers,
    mixers and attention products."""
    rows = []
    for name, overrides in MODELS.items():
        for resolution in RESOLUTIONS:
            side = resolution // LATENT_FACTOR
            config = resolve(BASE, {**overrides, "model.image_size": side})
            m, macs = config.model, forward_macs(config)
            attends = m.kind == "dit" or m.mixer == "attention"
            rows.append(
                {
                    "model": name,
                    "resolution": resolution,
                    "tokens": side**2,
                    "parameters": parameters(config),
                    "macs_per_call": macs.total,
                    "dense": macs.dense,
                    "mixer": macs.mixer,
                    "attention_products": m.depth * attention_products(m) if attends else 0,
                }
            )
    return pd.DataFrame(rows)


def reported_macs() -> pd.DataFrame:
    """Return a table of name, resolution and macs_per_call: the paper's training totals divided by its numbers of
    training images."""
    table = pd.read_csv(PUBLISHED / "imagenet.csv")
    table = table[table.model.str.fullmatch("(DiT-XL/2|DiffuSSM-XL)(-G)?") & table.total_gmacs.notna()]
    table = table.assign(
        name=table.model.str.removesuffix("-G") + ", reported total / images",
        macs_per_call=table.total_gmacs * 1e9 / (table.images_m * 1e6),
    )
    return table[["name", "resolution", "macs_per_call"]].drop_duplicates().reset_index(drop=True)
