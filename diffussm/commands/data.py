"""`diffussm data`: prepared data sets."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from diffussm.errors import UserError

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
    max_pixels: Annotated[int, typer.Option(help="that an image file may have")] = 10**9,
    processes: Annotated[int, typer.Option(help="processes that decode; the result is the same", min=1)] = 1,
) -> None:
    """Make a prepared data set of images. A command that was stopped continues where it was when it is given again."""
    from diffussm.data.prepared.show import summary
    from diffussm.data.preparing.prepare import prepare
    from diffussm.data.preparing.recipe import Options

    options = Options(image_size, transform, channels, labels, classes, limit, split, devkit, skip_broken, max_pixels)
    print(summary(prepare(source, out, options, processes)), file=sys.stderr)
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
    from diffussm.data.preparing.importing import ImportOptions, import_latents, numbers

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
) -> None:
    """Describe a prepared data set, and write a picture of some images of each class."""
    import io

    from diffussm.data.prepared.overview import overview
    from diffussm.data.prepared.reader import PreparedImages
    from diffussm.data.prepared.show import description
    from diffussm.store.writing import write_atomically

    data = PreparedImages(folder)
    print(description(folder, data))
    place = folder.absolute()
    path = out or place.with_name(f"{place.name}.png")
    png = io.BytesIO()
    overview(data).save(png, "PNG")
    write_atomically(path, png.getbuffer())
    print(path)
