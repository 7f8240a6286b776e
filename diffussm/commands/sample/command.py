"""The command and its options."""

import re
from pathlib import Path
from typing import Annotated

import typer

from diffussm.commands.options import (
    DataOption,
    GuidanceChannelsOption,
    GuidanceOption,
    LabelsOption,
    PrecisionOption,
    SamplerOption,
    SamplerStepsOption,
    VaeOption,
    sampling_overrides,
)
from diffussm.errors import UserError


def sample(
    model: Annotated[
        Path, typer.Argument(metavar="RUN|FOLDER", help="a run folder, or a model's (`diffussm convert`)")
    ],
    classes: Annotated[
        str,
        typer.Option(help="classes by number or name, one sheet each, as in 3,7 or cat (default: one sheet of all)"),
    ] = "",
    vae: VaeOption = "",
    sampler: SamplerOption = "",
    sampler_steps: SamplerStepsOption = None,
    precision: PrecisionOption = "",
    guidance: GuidanceOption = None,
    guidance_channels: GuidanceChannelsOption = None,
    labels: LabelsOption = "",
    layout: Annotated[str, typer.Option(help="rows x columns of a sheet")] = "8x8",
    grid: Annotated[str, typer.Option(hidden=True, help="the former name of --layout")] = "",
    step: Annotated[int | None, typer.Option(help="milestone of a run (default: the last)")] = None,
    out: Annotated[Path | None, typer.Option(help="folder for the sheets (default: sheets, in the model's)")] = None,
    npz: Annotated[Path | None, typer.Option(help="write all samples to this .npz instead of sheets")] = None,
    samples: Annotated[int | None, typer.Option(help="number of samples, with --npz", min=1)] = None,
    data_folder: DataOption = None,
    nearest: Annotated[
        bool, typer.Option("--nearest", help="below the samples of a sheet, show their nearest training images")
    ] = False,
) -> None:
    """Sample from a run's kept weights, or from the model in a folder, such as a published DiT: sheets of images, with
    the same noise for every class and guidance scale, or an .npz of samples, by one process or several (torchrun,
    srun). Latents are decoded."""
    from diffussm.commands.sample.model import sampled_model
    from diffussm.commands.sample.sheets import write_sheets

    if (npz is None) != (samples is None):
        raise UserError("--npz FILE and --samples N: give both, or neither")
    if npz is not None and nearest:
        raise UserError("--nearest: applies to sheets only; leave it out with --npz")
    rows, columns = _layout("--grid", grid) if grid else _layout("--layout", layout)
    chosen = classes.split(",") if classes else []
    data = None if data_folder is None else Path(data_folder)
    overrides = sampling_overrides(
        guidance,
        guidance_channels,
        sampler_steps=sampler_steps,
        sampler=sampler,
        precision=precision,
        labels=labels,
        vae=vae,
    )
    if npz is not None and samples is not None:
        from diffussm.commands.sample.npz import write_samples
        from diffussm.distributed.group import init_from_environment

        if len(chosen) > 1:
            raise UserError(f"--classes {classes}: with --npz, give at most one class")
        with init_from_environment() as processes:
            write_samples(sampled_model(model, overrides, step, chosen, data), samples, npz, processes)
            if processes.is_rank_zero:
                print(npz)
        return
    for path in write_sheets(sampled_model(model, overrides, step, chosen, data), rows, columns, out, nearest):
        print(path)


def _layout(option: str, text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not match:
        raise UserError(f"{option} {text}: expected rows x columns, as in 8x8")
    return int(match[1]), int(match[2])
