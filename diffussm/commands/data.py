"""`diffussm data`: prepared data sets."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diffussm.errors import UserError

if TYPE_CHECKING:
    from diffussm.data.prepared.overview import Pictures

app = typer.Typer(no_args_is_help=True, help="Prepared data sets: made of images once, read by training.")


@app.command()
def prepare(
    source: Annotated[
        Path, typer.Argument(help="folder or .zip of images, .npz, ImageNet, LSUN, CIFAR-10, idx files (docs/data.md)")
    ],
    out: Annotated[Path, typer.Argument(help="folder to make")],
    image_size: Annotated[int | None, typer.Option(help="pixels per side (default: the source's own)")] = None,
    transform: Annotated[
        str, typer.Option(help="centre-crop, as ADM's; lsun, as ADM's of LSUN; or none (default: that of the source)")
    ] = "",
    channels: Annotated[int | None, typer.Option(help="1 or 3 (default: 3 for image files, an array's own)")] = None,
    labels: Annotated[
        str, typer.Option(help="auto (subfolders, or the source's own), none, or a file: .csv, dataset.json")
    ] = "auto",
    classes: Annotated[
        Path | None, typer.Option(help="file with a class per line, and its name: selects, orders and names them")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="at most so many images, evenly spaced over the listing")] = None,
    split: Annotated[str, typer.Option(help="train, val or test, for sources that have them (default: train)")] = "",
    devkit: Annotated[
        Path | None,
        typer.Option(help="devkit (.tar.gz, folder) or Kaggle's solution, for ImageNet's flat validation set"),
    ] = None,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="leave out broken images and list them")] = False,
    max_pixels: Annotated[
        int | None, typer.Option(help="that an image file may have (default: 1000000000)", show_default=False)
    ] = None,
    processes: Annotated[int, typer.Option(help="processes that decode; the result is the same", min=1)] = 1,
    vae: Annotated[
        Path | None, typer.Option(help="store latents: folder of an AutoencoderKL in Diffusers' format")
    ] = None,
    flips: Annotated[bool, typer.Option("--flips", help="encode the mirror image of each image too")] = False,
    batch: Annotated[int | None, typer.Option(help="images that are encoded at once (default: 32)")] = None,
    precision: Annotated[str, typer.Option(help="of the VAE: float32 or bf16 (default: float32)")] = "",
    dtype: Annotated[str, typer.Option(help="float32 or float16, in which latents are stored (default: float32)")] = "",
    scale: Annotated[str, typer.Option(help="of latents, one number or one per channel (default: the VAE's)")] = "",
    shift: Annotated[str, typer.Option(help="of latents, one number or one per channel (default: the VAE's)")] = "",
    vae_range: Annotated[str, typer.Option(help="what black and white are for the VAE (default: -1,1)")] = "",
    device: Annotated[str, typer.Option(help="cuda or cpu, on which it encodes (default: cuda if there is one)")] = "",
) -> None:
    """Make a prepared data set of images, or with --vae of their latents. A command that was stopped continues where it
    was when it is given again, by any number of processes: its own, or those of torchrun or srun."""
    from diffussm.data.prepared.show import summary
    from diffussm.data.preparing.encoding import encoding_options
    from diffussm.data.preparing.latent_options import numbers
    from diffussm.data.preparing.prepare import prepare
    from diffussm.data.preparing.recipe import Options
    from diffussm.distributed.group import init_from_environment

    options = Options(image_size, transform, channels, labels, classes, limit, split, devkit, skip_broken, max_pixels)
    encoding = encoding_options(
        vae,
        flips=flips or None,
        batch=batch,
        precision=precision or None,
        dtype=dtype or None,
        scale=numbers("--scale", scale),
        shift=numbers("--shift", shift),
        vae_range=numbers("--vae-range", vae_range),
        device=device or None,
    )
    with init_from_environment() as group:
        manifest = prepare(source, out, options, processes, encoding, group)
        if group.is_rank_zero:
            print(summary(manifest), file=sys.stderr)
            print(out)


@app.command("import")
def import_(
    path: Annotated[
        Path, typer.Argument(help="latents as fast-DiT, EDM2, REPA, MAR, LightningDiT, DDT or DiMSUM have")
    ],
    out: Annotated[Path, typer.Argument(help="folder to make")],
    vae: Annotated[Path | None, typer.Option(help="Diffusers folder of the autoencoder: its hash is stated")] = None,
    vae_range: Annotated[
        str, typer.Option(help="what black and white are for the autoencoder: 0,1 or -1,1 (EDM2's files do not say)")
    ] = "",
    scale: Annotated[str, typer.Option(help="one number, or one for each channel, with commas")] = "",
    shift: Annotated[str, typer.Option(help="one number, or one for each channel, with commas")] = "",
    images: Annotated[
        int | None, typer.Option(help="how many images were encoded (of 1,000 classes: ImageNet's)")
    ] = None,
    classes: Annotated[Path | None, typer.Option(help="file with the name of each class per line")] = None,
    limit: Annotated[int | None, typer.Option(help="at most so many images, evenly spaced over the listing")] = None,
    dtype: Annotated[str, typer.Option(help="float32 or float16, in which they are stored")] = "float32",
    transform: Annotated[str, typer.Option(help="what was done to the images, in words, such as centre-crop 256")] = "",
    image_size: Annotated[int | None, typer.Option(help="pixels per side of the images (default: by the VAE)")] = None,
    processes: Annotated[int, typer.Option(help="processes that read; the result is the same", min=1)] = 1,
) -> None:
    """Make a prepared data set of latents that another program has written; what was baked in is stated."""
    from diffussm.data.prepared.show import summary
    from diffussm.data.preparing.importing import ImportOptions, import_latents
    from diffussm.data.preparing.latent_options import numbers

    options = ImportOptions(
        vae=vae,
        vae_range=numbers("--vae-range", vae_range),
        scale=numbers("--scale", scale),
        shift=numbers("--shift", shift),
        images=images,
        classes=classes,
        limit=limit,
        dtype=dtype,
        transform=transform,
        image_size=image_size,
    )
    print(summary(import_latents(path, out, options, processes)), file=sys.stderr)
    print(out)


@app.command()
def verify(folder: Annotated[Path, typer.Argument(help="a prepared data set")]) -> None:
    """Compare every file with its SHA-256; name those that are missing or damaged, and others that lie there."""
    from diffussm.data.prepared.manifest import read_manifest
    from diffussm.data.prepared.verify import find_damage, stored_files
    from diffussm.progress import Progress

    found = find_damage(folder, Progress("files", len(stored_files(read_manifest(folder)))))
    for problem in found:
        print(problem)
    if found:
        raise UserError(
            f"{folder}: {len(found)} problem{'s' * (len(found) != 1)}; restore the files, or prepare the data set again"
        )
    print(f"{folder}: all files are as they were written")


@app.command()
def show(
    folder: Annotated[Path, typer.Argument(help="a prepared data set")],
    out: Annotated[Path | None, typer.Option(help="PNG to write (default: beside the folder)")] = None,
    vae: Annotated[
        str, typer.Option(help="folder of the autoencoder that decodes latents (default: $DIFFUSSM_VAE)")
    ] = "",
) -> None:
    """Describe a prepared data set, and write a picture of some images of each class: of latents, decoded."""
    from diffussm.data.prepared.reader import PreparedItems
    from diffussm.data.prepared.show import description

    data = PreparedItems(folder)
    pictures = _pictures(folder, data.manifest.kind == "pixels", vae)
    print(description(folder, data))
    if pictures is None:
        print("no picture: add --vae FOLDER, the autoencoder of these latents, or set $DIFFUSSM_VAE", file=sys.stderr)
        return
    place = folder.absolute()
    print(_write_picture(pictures, out or place.with_name(f"{place.name}.png")))


def _pictures(folder: Path, has_pixels: bool, vae: str) -> "Pictures | None":
    """Return the images to be shown; None for latents without their autoencoder."""
    if has_pixels:
        from diffussm.data.prepared.reader import PreparedImages

        if vae:
            raise UserError(f"--vae {vae}: {folder} holds images, not latents; leave it out")
        return PreparedImages(folder)
    from diffussm.vae.facts import VARIABLE, given_folder

    if not (given := given_folder(vae)):
        return None
    from diffussm.data.prepared.decoded import DecodedLatents
    from diffussm.data.prepared.latents import PreparedLatents
    from diffussm.distributed.group import select_device

    origin = f"--vae {given}" if vae else f"${VARIABLE} = {given}"
    return DecodedLatents(PreparedLatents(folder), Path(given), select_device(), origin)


def _write_picture(pictures: "Pictures", path: Path) -> Path:
    import io

    from diffussm.data.prepared.overview import overview
    from diffussm.store.writing import write_atomically

    png = io.BytesIO()
    overview(pictures, "" if pictures.manifest.kind == "pixels" else "latents decoded").save(png, "PNG")
    write_atomically(path, png.getbuffer())
    return path
