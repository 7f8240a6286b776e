"""Importing latents that another program has written: from its files to a data set."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffussm.data.latent_sources.base import Facts, LatentSource, checked
from diffussm.data.latent_sources.detect import open_latents
from diffussm.data.prepared.manifest import LatentFacts, Manifest
from diffussm.data.prepared.writer import Content
from diffussm.data.preparing.build import build
from diffussm.data.preparing.latent_options import black_and_white, check_dtype, of_channels
from diffussm.data.preparing.recipe import Made
from diffussm.data.preparing.selection import AUTO, select
from diffussm.data.sources.base import Broken, Entry
from diffussm.data.sources.files import read_text
from diffussm.data.sources.imagenet import WNID
from diffussm.errors import UserError
from diffussm.vae.facts import VaeFacts, vae_facts


@dataclass(frozen=True)
class ImportOptions:
    """What is stated beside the place. None and "" leave it to the layout. UserError for what no layout allows."""

    vae: Path | None = None
    vae_range: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None
    shift: tuple[float, ...] | None = None
    images: int | None = None
    classes: Path | None = None
    limit: int | None = None
    dtype: str = "float32"
    transform: str = ""
    image_size: int | None = None

    def __post_init__(self) -> None:
        check_dtype(self.dtype)
        for name, value in (("--images", self.images), ("--limit", self.limit), ("--image-size", self.image_size)):
            if value is not None and value < 1:
                raise UserError(f"{name} {value}: allowed: 1 or more")
        if self.vae_range is not None:
            black_and_white(self.vae_range)

    @property
    def black_and_white(self) -> tuple[float, float] | None:
        return None if self.vae_range is None else black_and_white(self.vae_range)


@dataclass(frozen=True)
class LatentRecipe:
    """How latents of a source become those of the data set: they are checked."""

    source: LatentSource
    facts: Facts
    content: Content
    skip_broken: bool = False
    max_pixels: int = 1  # no pixels are read

    def made(self, entries: Sequence[Entry]) -> Iterator[Made | Broken]:
        for entry in entries:
            yield Made(checked(self.source, self.facts, entry))

    def error(self, entry: Entry, broken: Broken) -> UserError:
        return UserError(f"{self.source.naming(entry)}: {broken}")


def import_latents(path: Path, out: Path, options: ImportOptions, processes: int = 1) -> Manifest:
    """Make the data set `out` of the latents at `path`, or continue to make it; return its manifest.

    Raises UserError for latents that are damaged or not all, for what must be stated, and as `build`.
    """
    source = open_latents(path, options.black_and_white, options.images)
    found = source.listed()
    facts = source.facts(found)
    content = _content(source, facts, options)
    if options.classes is not None and _are_numbers(found.classes):
        found = found._replace(classes=_class_names(options.classes, len(found.classes)))
        selection = select(found, AUTO, None, options.limit)
    else:
        selection = select(found, AUTO, options.classes, options.limit)
    return build(out, LatentRecipe(source, facts, content), found, selection, processes)


def _content(source: LatentSource, facts: Facts, options: ImportOptions) -> Content:
    """Return what is stored, by the layout, by what is stated, and by the VAE if it is given."""
    vae = vae_facts(options.vae) if options.vae is not None else None
    channels = facts.shape[0]
    if vae is not None and vae.channels != channels:
        raise UserError(
            f"--vae {options.vae}: its latents have {vae.channels} channels, those of {source.path} {channels}"
        )
    scale, shift = facts.scale, facts.shift
    if scale is None and vae is not None:
        scale, shift = vae.scale, vae.shift
    scale, shift = options.scale or scale, options.shift or shift
    if scale is None:
        raise UserError(
            f"{source.path}: add --scale S, by which its latents of {channels} channels are multiplied for the "
            "network: one value, or one for each channel, with commas"
        )
    latents = LatentFacts(
        vae_sha256=vae.sha256 if vae is not None else "",
        vae_range=options.black_and_white or facts.vae_range,
        scale=of_channels("--scale", scale, channels),
        shift=of_channels("--shift", shift, channels),
        scaled=facts.scaled,
        decoded_size=_decoded_size(source, facts, options, vae),
        baked=facts.baked,
        dtype="float16" if options.dtype == "float16" else "float32",
    )
    return Content(facts.kind, facts.shape, options.transform, facts.flips, latents)


def _decoded_size(source: LatentSource, facts: Facts, options: ImportOptions, vae: VaeFacts | None) -> int:
    side = facts.shape[1]
    size = side * vae.factor if vae is not None else facts.decoded_size
    if vae is not None and options.image_size not in (None, size):
        raise UserError(
            f"--image-size {options.image_size}: {options.vae} decodes latents of {side} x {side} to {size} x {size} "
            "pixels"
        )
    size = options.image_size or size
    if size is None:
        raise UserError(f"{source.path}: add --image-size S, the pixels per side to which its latents are decoded")
    return size


def _are_numbers(classes: tuple[str, ...]) -> bool:
    return classes == tuple(map(str, range(len(classes))))


def _class_names(file: Path, count: int) -> tuple[str, ...]:
    """Return the names in a file, a line each in the order of the labels; a wnid before a name is not part of it."""
    lines = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    if len(lines) != count:
        raise UserError(f"{file}: has {len(lines)} lines; needed is a name for each of {count} classes, in their order")
    keys = [re.split(r"[\t ,]", line, maxsplit=1)[0] for line in lines]
    names = lines
    if all(map(WNID.fullmatch, keys)):
        names = [line[len(key) :].strip("\t ,") or key for key, line in zip(keys, lines, strict=True)]
    else:
        keys = [str(label) for label in range(count)]
    repeated = {name for name, times in Counter(names).items() if times > 1}
    return tuple(f"{name} ({key})" if name in repeated else name for key, name in zip(keys, names, strict=True))
