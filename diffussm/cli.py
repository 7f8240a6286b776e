"""Train, sample from and evaluate one run or one model. Grids are launched by ablations/launch.py."""

from pathlib import Path
from typing import Annotated, Any

import typer

from diffussm.commands import data, extractor
from diffussm.commands.options import (
    CheckpointingOption,
    CompileOption,
    DataOption,
    GuidanceChannelsOption,
    GuidanceOption,
    LabelsOption,
    MicroBatchOption,
    PrecisionOption,
    SamplerOption,
    SamplerStepsOption,
    VaeOption,
    sampling_overrides,
)
from diffussm.commands.sample.command import sample
from diffussm.errors import UserError, exit_code
from diffussm.metric_table import BY_DEFAULT

UsageError: Any = typer.BadParameter.__base__  # raised for wrong arguments; typer exports only this subclass of it

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@app.callback()
def commands() -> None:
    """DiffuSSM, attention-free diffusion models: commands for one run or one model."""


@app.command()
def train(
    target: Annotated[str, typer.Argument(metavar="BASE|RUNDIR", help="a base, a TOML file like one, or a run folder")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="section.field=value of the config (docs/config.md); may be repeated"),
    ] = None,
    data_folder: DataOption = None,
    runs: Annotated[Path | None, typer.Option(help="folder for the run folder of a BASE (default: runs)")] = None,
    replay: Annotated[
        bool,
        typer.Option(
            "--replay",
            help="retrain from the start up to requested milestones that the run passed without keeping their weights",
        ),
    ] = False,
    retry: Annotated[bool, typer.Option("--retry", help="resume a cancelled run")] = False,
    checkpoint_minutes: Annotated[
        float | None, typer.Option(help="at most this long between checkpoints (default: as the run's config)", min=0)
    ] = None,
    to_logs: Annotated[bool, typer.Option("--to-logs", help="write output to log files in the run folder")] = False,
    stage: Annotated[
        str | None, typer.Option(help="folder on a local disk, to which a prepared data set is copied")
    ] = None,
    micro_batch: MicroBatchOption = None,
    checkpointing: CheckpointingOption = None,
    compile_: CompileOption = None,
) -> int:
    """Train one run and evaluate its milestones, or continue it, by one process or several (torchrun, srun).

    Exit codes: 0 done; 1 failed; 2 invalid input, or the run is cancelled (add --retry); 3 stopped after a checkpoint
    by SIGTERM, SIGINT or SIGUSR2 (the same command resumes the run), or cancelled meanwhile (resume with --retry).
    """
    from diffussm.commands.train import train
    from diffussm.config import parse_settings

    changes = parse_settings(settings or [], data_folder)
    steps = {"micro_batch": micro_batch, "checkpointing": checkpointing, "compile": compile_}
    ordered = {name: value for name, value in steps.items() if value is not None}
    return train(target, changes, runs, replay, retry, checkpoint_minutes, to_logs, stage, ordered)


app.command()(sample)


@app.command()
def evaluate(
    paths: Annotated[
        list[Path], typer.Argument(help="run folders, models' folders, folders of PNG files, .npz files of samples")
    ],
    reference: Annotated[str, typer.Option(help="a data set's name, or an .npz in ADM's format")] = "",
    extractor: Annotated[str, typer.Option(help="feature extractor (default: the run's, or the reference's)")] = "",
    metrics: Annotated[
        str,
        typer.Option(
            help="metrics, as in fid,sfid,kid (default: those of the run; otherwise those of "
            f"{', '.join(BY_DEFAULT)} that extractor and reference support)"
        ),
    ] = "",
    extractor_weights: Annotated[str, typer.Option(help="file or folder; see `diffussm weights`")] = "",
    vae: VaeOption = "",
    sampler: SamplerOption = "",
    sampler_steps: SamplerStepsOption = None,
    precision: PrecisionOption = "",
    guidance: GuidanceOption = None,
    guidance_channels: GuidanceChannelsOption = None,
    labels: LabelsOption = "",
    samples: Annotated[
        int | None, typer.Option(help="n, samples of a run or model (default: the run's; 50,000)")
    ] = None,
    step: Annotated[int | None, typer.Option(help="milestone of a run (default: the last)")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="evaluation.field=value, for runs and models; may be repeated")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="folder for the records of models (default: evaluations, in the model's)")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the records as JSON")] = False,
) -> None:
    """Measure samples, of a run, of the model in a folder, or external, by one process or several (torchrun, srun)."""
    from diffussm.commands.evaluate import evaluate_paths
    from diffussm.config import parse_settings

    options = {
        "reference": reference,
        "extractor": extractor,
        "metrics": tuple(filter(None, metrics.split(","))),
        "extractor_weights": extractor_weights,
    }
    sampling = sampling_overrides(
        guidance,
        guidance_channels,
        sampler=sampler,
        sampler_steps=sampler_steps,
        precision=precision,
        samples=samples,
        labels=labels,
        vae=vae,
    )
    given = {name: value for name, value in options.items() if value}
    print(evaluate_paths(paths, step, parse_settings(settings or []), given, sampling, out, as_json), end="")


@app.command()
def weights(
    name: Annotated[str, typer.Argument(help="verify the weights of this extractor only")] = "",
    given: Annotated[str, typer.Option("--extractor-weights", help="file or folder to look in")] = "",
) -> None:
    """List the weights that extractors need, where they come from and where to put them, and verify their hashes."""
    from diffussm.commands.weights import report, verify

    print(verify(name, given) if name else report(given))


app.add_typer(data.app, name="data")
app.add_typer(extractor.app, name="extractor")
reference = typer.Typer(no_args_is_help=True, help="Reference files in the format of ADM's evaluator.")
app.add_typer(reference, name="reference")


@reference.command()
def build(
    source: Annotated[str, typer.Argument(help="a data set's name or folder, an .npz, or what `data prepare` takes")],
    out: Annotated[Path, typer.Argument(help="the .npz to write")],
    image_size: Annotated[int | None, typer.Option(help="side in pixels to which images are cropped")] = None,
    extractor: Annotated[str, typer.Option(help="extractor (default: the data set's, or inception-v3-compat)")] = "",
    images: Annotated[int, typer.Option(help="images to keep, for precision, recall and KID", min=0)] = 10_000,
    extractor_weights: Annotated[str, typer.Option(help="file or folder; see `diffussm weights`")] = "",
    statistics: Annotated[bool, typer.Option(help="store means and covariances of all images")] = True,
    transform: Annotated[str, typer.Option(help="as for `data prepare` (default: that of the source)")] = "",
) -> None:
    """Build a reference from images, with the transform used in training."""
    from diffussm.commands.reference import build

    build(source, out, image_size, extractor, images, extractor_weights, statistics, transform)
    print(out)


@reference.command()
def show(path: Path) -> None:
    """Show the content of a reference file and its origin."""
    from diffussm.commands.reference import show

    print(show(path))


@reference.command()
def compare(a: Path, b: Path) -> None:
    """Compare two reference files."""
    from diffussm.commands.reference import compare

    print(compare(a, b))


@app.command()
def check_mixer(name: Annotated[str, typer.Argument(help="package.module:Class")]) -> None:
    """Check an external mixer: shape, initial values, gradients, direction and cost."""
    from diffussm.commands.check_mixer import MixerFault, check_mixer

    try:
        for sentence in check_mixer(name):
            print(sentence)
    except MixerFault as fault:
        raise UserError(f"{name}: {fault}") from None


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="a run folder, an official DiT's .pt or a Diffusers DiT's folder")],
    folder: Annotated[Path, typer.Argument(help="folder for config.json and model.safetensors")],
    step: Annotated[int | None, typer.Option(help="milestone of a run (default: the last)")] = None,
    weights: Annotated[str, typer.Option(help="weights of a run: ema | raw")] = "ema",
    heads: Annotated[int | None, typer.Option(help="attention heads of a .pt of a width that is not published")] = None,
) -> None:
    """Convert a model to a folder that `from_pretrained` reads."""
    from diffussm.commands.convert import convert

    convert(source, folder, step, weights, heads)
    print(folder)


@app.command()
def cost(
    model: Annotated[
        str, typer.Argument(help="a name such as DiT-XL/2 or DiffuSSM-XL, a base, a run folder or a config file")
    ] = "",
    resolution: Annotated[
        list[str] | None, typer.Option(help="side in pixels: 256 for latents, 128px for pixels; may be repeated")
    ] = None,
    per_block: Annotated[bool, typer.Option("--per-block", help="also list each part of the model")] = False,
    every: Annotated[bool, typer.Option("--all", help="all named models")] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="section.field=value of the config (docs/config.md); may be repeated"),
    ] = None,
    data_folder: DataOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    audited: Annotated[
        bool, typer.Option("--audit", help="also show the counts of fvcore and torch; runs the model")
    ] = False,
    memory: Annotated[
        bool, typer.Option("--memory", help="also show what training takes of a GPU's memory, part by part")
    ] = False,
    gpus: Annotated[
        int | None, typer.Option(help="with --memory: number of GPUs that share a batch (default: 8)", min=1)
    ] = None,
    gpu_memory: Annotated[
        float | None, typer.Option(help="with --memory: GB of one of them (default: 80)", min=1)
    ] = None,
    kernels: Annotated[
        int | None, typer.Option(help="also count what a GPU runs for a block on this number of images", min=1)
    ] = None,
) -> None:
    """Count the parameters and the multiply-adds of a call, a training step and a sampled image, and the memory of
    training, without building the model (except with --audit and --kernels)."""
    from diffussm.config import parse_settings
    from diffussm.cost import command

    if bool(model) == every:
        raise UserError("give either a model or --all")
    if not memory and (gpus or gpu_memory):
        raise UserError("--gpus, --gpu-memory: need --memory")
    models, changes = [model] if model else [], parse_settings(settings or [], data_folder)
    default = command.Gpus()
    chosen = command.Gpus(gpus or default.number, gpu_memory or default.memory_gb) if memory else None
    print(command.report(models, tuple(resolution or ()), changes, per_block, audited, as_json, chosen, kernels))


@app.command()
def tune(
    out: Annotated[Path | None, typer.Option(help="file to write (default: in the user's cache)")] = None,
) -> None:
    """Measure the S4D backends on this machine, for a minute or two; `training.backend = auto` uses the result."""
    import torch

    from diffussm.host.machine import keep_freed_memory
    from diffussm.ssm import selection
    from diffussm.ssm.tune import measure, write

    keep_freed_memory()
    path = out or selection.tuned_path()
    write(list(measure("cuda" if torch.cuda.is_available() else "cpu", print)), path)
    print(path)


def main() -> int:
    def run() -> int:
        try:
            return app(standalone_mode=False) or 0
        except UsageError as error:
            if message := error.format_message():
                raise UserError(message) from None
            return 2  # no command was given: typer has printed the help

    return exit_code(run)
