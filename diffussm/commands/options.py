"""Options of several commands: where data are, and how samples are made."""

from typing import Annotated, Any, Literal

import typer

DataOption = Annotated[
    str | None, typer.Option("--data", metavar="DIR", help="folder of the prepared data set: --set data.root=DIR")
]
VaeOption = Annotated[
    str,
    typer.Option(
        metavar="DIR", help="the autoencoder of latents, in Diffusers' format (default: the run's, or $DIFFUSSM_VAE)"
    ),
]
SamplerOption = Annotated[str, typer.Option(help="ddim, ddpm, dpm-solver++ or unipc (default: the run's; DiT's ddpm)")]
SamplerStepsOption = Annotated[int | None, typer.Option(help="steps of the sampler (default: the run's; DiT's 250)")]
PrecisionOption = Annotated[
    str, typer.Option(help="what the network samples in: float32, tf32 or bf16 (default: the run's; float32)")
]
GuidanceOption = Annotated[
    float | None, typer.Option(help="scale of classifier-free guidance; 1: none (default: the run's; none)")
]
GuidanceChannelsOption = Annotated[
    int | None, typer.Option(help="guide only the first channels; 0: all (default: the run's; DiT's 3)")
]
LabelsOption = Annotated[
    str, typer.Option(help="classes where none are given: random or balanced (default: the run's; random)")
]
MicroBatchOption = Annotated[
    int | None,
    typer.Option(help="from now on, compute at most so many images at once in training; 0: all", min=0),
]
CompileOption = Annotated[
    Literal["none", "block"] | None,
    typer.Option("--compile", help="from now on, compile each block in training (block) or not (none)"),
]
CheckpointingOption = Annotated[
    Literal["none", "block"] | None,
    typer.Option(help="from now on, compute blocks again in the backward pass (block) or not (none)"),
]


def sampling_overrides(guidance: float | None, guidance_channels: int | None, **given: Any) -> dict[str, Any]:
    """Return the fields of the evaluation that the options set; without guidance, no channels are chosen."""
    if guidance == 1:
        guidance_channels = 0
    every = {"guidance": guidance, "guidance_channels": guidance_channels, **given}
    return {name: value for name, value in every.items() if value not in (None, "")}
