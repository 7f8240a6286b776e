"""`diffussm extractor`: feature extractors of one's own."""

from pathlib import Path
from typing import Annotated

import typer

from diffussm.errors import UserError

app = typer.Typer(no_args_is_help=True, help="Feature extractors of your own, for images of any size.")


@app.command()
def train(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="a prepared data set with classes")],
    out: Annotated[
        Path | None, typer.Option(help="the .safetensors to write (default: beside DIR, DIR-cnn.safetensors)")
    ] = None,
    epochs: Annotated[
        float,
        typer.Option(help="passes over the images; 0: 32, more over few images and fewer over many", min=0, max=1e6),
    ] = 0,
    seed: Annotated[
        int, typer.Option(help="of the initial values, the order and what is held out", min=0, max=2**63 - 1)
    ] = 0,
) -> None:
    """Train a small CNN to tell the classes of a prepared data set apart; its features measure samples of such images.

    Give the file as evaluation.extractor. It holds its recipe, and its accuracy on images that were held out."""
    from diffussm.config import is_extractor_file
    from diffussm.data.prepared.reader import PreparedImages
    from diffussm.metrics.features.own_file import SUFFIX
    from diffussm.metrics.features.train_own import train, write
    from diffussm.progress import Progress

    folder = folder.absolute() if folder.name not in ("", "..") else folder.resolve()
    out = out or folder.with_name(f"{folder.name}-cnn{SUFFIX}")  # the folder itself holds what its manifest lists
    if not is_extractor_file(out.name):
        raise UserError(f"{out}: an extractor is a {SUFFIX} file; give a name that ends in {SUFFIX}")
    if out.exists():
        raise UserError(f"{out}: already exists; remove it, or choose another name with --out")
    shown: list[Progress] = []

    def report(seen: int, total: int) -> None:
        if not shown:
            shown.append(Progress(f"{folder.name}: images seen", total))
        shown[0](seen)

    write(out, *train(PreparedImages(folder), folder.name, epochs, seed, report))
    show(out)


@app.command()
def show(path: Path) -> None:
    """Show what an extractor is for, its accuracy on held-out images and its recipe."""
    from diffussm.metrics.features.own_file import read_own_extractor
    from diffussm.store.hashes import file_sha256

    own = read_own_extractor(path)
    recipe = own.recipe.model_dump()
    versions = recipe.pop("versions")
    print(f"{path}, sha256 {file_sha256(path)}")
    print(f"  {own.name}: for {own.channels} x {own.image_size} x {own.image_size} images")
    print(f"  {len(own.classes)} classes: {', '.join(own.classes)}")
    print(f"  held-out accuracy {own.held_out_accuracy:.4f}, of {own.held_out_images:,} images")
    print(f"  layers: {', '.join(f'{name} {size:,}' for name, size in own.layers.items())}")
    print(f"  trained on {own.recipe.images:,} images, {own.recipe.epochs:.3g} epochs of batches of {own.recipe.batch}")
    print(f"  shifted at random in training, by at most {own.recipe.shift} pixel{'s' * (own.recipe.shift != 1)}")
    for name in ("seed", "transform", "data_digest"):
        print(f"  {name}: {recipe[name]}")
    print(f"  versions: {', '.join(f'{name} {version}' for name, version in versions.items())}")
