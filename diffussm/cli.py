"""The command `diffussm`: what is done with one run or one model. Grids are launched by ablations/launch.py."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from diffussm.errors import UserError, exit_code, unknown

UsageError: Any = typer.BadParameter.__base__  # of wrong words on the command line; typer exports only this child of it

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@app.callback()
def commands() -> None:
    """DiffuSSM, attention-free diffusion: what is done with one run or one model."""


@app.command()
def sample(
    run: Annotated[Path, typer.Argument(help="a run folder")],
    classes: Annotated[str, typer.Option(help="a sheet for each, as in 3,7 (default: one sheet of all)")] = "",
    guidance: Annotated[float, typer.Option(help="scale of classifier-free guidance; 1 is none")] = 1.0,
    guidance_channels: Annotated[int, typer.Option(help="guide the first channels only, as DiT does; 0: all")] = 0,
    grid: Annotated[str, typer.Option(help="rows x columns of a sheet")] = "8x8",
    step: Annotated[int | None, typer.Option(help="which milestone (default: the last)")] = None,
    sampler_steps: Annotated[int | None, typer.Option(help="(default: as the run is evaluated)")] = None,
    out: Annotated[Path | None, typer.Option(help="folder for the sheets (default: RUN/sheets)")] = None,
    npz: Annotated[Path | None, typer.Option(help="instead of sheets: all samples, for any evaluator")] = None,
    samples: Annotated[int | None, typer.Option(help="how many, with --npz", min=1)] = None,
) -> None:
    """Samples from a run's kept weights: sheets of the same noise for every class and scale, or, by one process or many
    (torchrun, srun), an .npz."""
    from diffussm.commands.sample_sheets import write_sheets
    from diffussm.store.rundir import RunDir

    if (npz is None) != (samples is None):
        raise UserError("--npz FILE and --samples N: give both, or neither")
    rows, columns = _grid(grid)
    labels = [_label(text) for text in classes.split(",")] if classes else [None]
    overrides: dict[str, object] = {"guidance": guidance, "guidance_channels": guidance_channels}
    if sampler_steps is not None:
        overrides["sampler_steps"] = sampler_steps
    if npz is not None and samples is not None:
        from diffussm.commands.sample import write_samples
        from diffussm.distributed.group import of_environment

        if len(labels) > 1:
            raise UserError("--classes: one at most with --npz")
        with of_environment() as processes:
            write_samples(RunDir(run), samples, npz, labels[0], overrides, step, processes)
            if processes.is_rank_zero:
                print(npz)
        return
    for path in write_sheets(RunDir(run), labels, rows, columns, overrides, step, out):
        print(path)


@app.command()
def evaluate(
    paths: Annotated[list[Path], typer.Argument(help="a run folder, a folder of PNG files, an .npz of samples")],
    reference: Annotated[str, typer.Option(help="a data set's name, or an .npz in ADM's format")] = "",
    extractor: Annotated[str, typer.Option(help="(default: as the run is evaluated, or the reference's own)")] = "",
    metrics: Annotated[str, typer.Option(help="as in fid,sfid,kid (default: all that the extractor gives)")] = "",
    extractor_weights: Annotated[str, typer.Option(help="file or folder; see `diffussm weights`")] = "",
    step: Annotated[int | None, typer.Option(help="which milestone of a run (default: the last)")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="evaluation.field=value, of a run; may be repeated")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the records, for programs")] = False,
) -> None:
    """Measure samples, of this package's runs or from anywhere: one process, or many by torchrun or srun."""
    from diffussm.commands.evaluate import evaluate_paths
    from diffussm.config import parse_settings

    print(
        evaluate_paths(
            paths,
            step=step,
            settings=parse_settings(settings or []),
            reference=reference,
            extractor=extractor,
            metrics=tuple(filter(None, metrics.split(","))),
            extractor_weights=extractor_weights,
            as_json=as_json,
        ),
        end="",
    )


@app.command()
def weights(
    name: Annotated[str, typer.Argument(help="only this one: an error unless it is there and the right one")] = "",
    given: Annotated[str, typer.Option("--extractor-weights", help="file or folder to look in")] = "",
) -> None:
    """Weights that extractors need: which files, where from, where to put them, and whether they are the right ones."""
    from diffussm.commands.weights import report, verify

    print(verify(name, given) if name else report(given))


reference = typer.Typer(no_args_is_help=True, help="Reference files in the format of ADM's evaluator.")
app.add_typer(reference, name="reference")


@reference.command()
def build(
    source: Annotated[str, typer.Argument(help="a data set's name, a folder of photographs, an .npz of images")],
    out: Annotated[Path, typer.Argument(help="the .npz to write")],
    image_size: Annotated[int | None, typer.Option(help="pixels a side, of a folder")] = None,
    extractor: Annotated[str, typer.Option(help="(default: the data set's own, or inception-v3-compat)")] = "",
    images: Annotated[int, typer.Option(help="how many to keep, for precision, recall and KID", min=0)] = 10_000,
    extractor_weights: Annotated[str, typer.Option(help="file or folder; see `diffussm weights`")] = "",
    statistics: Annotated[bool, typer.Option(help="means and covariances of all images")] = True,
) -> None:
    """Make a reference from images, through the transform that training has."""
    from diffussm.commands.reference import build

    build(source, out, image_size, extractor, images, extractor_weights, statistics)
    print(out)


@reference.command()
def show(path: Path) -> None:
    """What a reference file holds, and what it says of its origin."""
    from diffussm.commands.reference import show

    print(show(path))


@reference.command()
def compare(a: Path, b: Path) -> None:
    """How far apart two reference files are."""
    from diffussm.commands.reference import compare

    print(compare(a, b))


@app.command()
def check_mixer(name: Annotated[str, typer.Argument(help="package.module:Class")]) -> None:
    """Check a mixer from outside: shape, gradients, direction, cost, initial values."""
    from diffussm.commands.check_mixer import MixerFault, check_mixer

    try:
        for sentence in check_mixer(name):
            print(sentence)
    except MixerFault as fault:
        raise UserError(f"{name}: {fault}") from None


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="a run's folder, an official DiT's .pt, a Diffusers DiT's folder")],
    folder: Annotated[Path, typer.Argument(help="where config.json and model.safetensors go")],
    step: Annotated[int | None, typer.Option(help="which milestone of a run (default: the last)")] = None,
    weights: Annotated[str, typer.Option(help="ema | raw, of a run")] = "ema",
    heads: Annotated[int | None, typer.Option(help="of a .pt whose width is of no published size")] = None,
) -> None:
    """A model as a folder that `from_pretrained` reads; what does not fit is named."""
    from diffussm.models.pretrained import from_pretrained, save_pretrained
    from diffussm.models.trained import kept_step, load_network
    from diffussm.store.rundir import RunDir

    if weights not in ("ema", "raw"):
        raise unknown("--weights", weights, ["ema", "raw"])
    if (source / "requests").is_dir():
        run = RunDir(source)
        model = load_network(run, run.config(), weights, kept_step(run, weights, step), "auto")
    else:
        model = from_pretrained(source, heads=heads)
    save_pretrained(model, folder)
    print(folder)


@app.command()
def cost(
    model: Annotated[
        str, typer.Argument(help="a name as DiT-XL/2 or DiffuSSM-XL, a base, a run's folder, a file")
    ] = "",
    resolution: Annotated[
        list[str] | None, typer.Option(help="pixels a side: 256 as latents, 128px as they are; may be repeated")
    ] = None,
    per_block: Annotated[bool, typer.Option("--per-block", help="each part of the model too")] = False,
    every: Annotated[bool, typer.Option("--all", help="all named models")] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="section.field=value of the schema; may be repeated")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
    audited: Annotated[bool, typer.Option("--audit", help="count as fvcore and torch do, too; runs the model")] = False,
) -> None:
    """Parameters and multiply-adds: of a call, a training step, an image sampled. Allocates nothing."""
    from diffussm.cost import command

    if bool(model) == every:
        raise UserError("give a model, or --all")
    print(
        command.report([model] if model else [], tuple(resolution or ()), settings or [], per_block, audited, as_json)
    )


@app.command()
def tune(
    out: Annotated[Path | None, typer.Option(help="where to write it (default: this user's cache)")] = None,
) -> None:
    """Measure the ways to compute S4D on this machine, a minute or two: what `training.backend = auto` then goes by."""
    import torch

    from diffussm.host.machine import keep_freed_memory
    from diffussm.ssm import selection
    from diffussm.ssm.tune import measure, write

    keep_freed_memory()
    path = out or selection.tuned()
    write(list(measure("cuda" if torch.cuda.is_available() else "cpu", print)), path)
    print(path)


def _grid(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not match:
        raise UserError(f"--grid {text}: give it as rows x columns, as in 8x8")
    return int(match[1]), int(match[2])


def _label(text: str) -> int:
    if not text.strip().isdigit():
        raise UserError(f"--classes {text!r}: a class is a number from 0")
    return int(text)


def main() -> int:
    def run() -> int:
        try:
            return app(standalone_mode=False) or 0
        except UsageError as error:
            if message := error.format_message():
                raise UserError(message) from None
            return 2  # no command: typer has printed the help

    return exit_code(run)
