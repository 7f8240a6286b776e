"""How what a data set stores of an image is made of a source."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray
from PIL import Image

from diffussm.data.prepared.writer import Content
from diffussm.data.preparing.selection import AUTO
from diffussm.data.sources.base import Broken, Entry, Origin, Source
from diffussm.data.sources.image_file import HUGE, MAX_PIXELS, decode
from diffussm.data.transforms import (
    CENTRE_CROP,
    LSUN,
    NONE,
    TRANSFORMS,
    CannotTransform,
    as_array,
    described,
    in_channels,
)
from diffussm.errors import UserError, unknown

MAX_SIZE = 8192


@dataclass(frozen=True)
class Options:
    """What is asked for beside source and place. None and "" leave the choice to the source. UserError for values that
    no source allows."""

    image_size: int | None = None
    transform: str = ""
    channels: int | None = None
    labels: str = AUTO
    classes: Path | None = None
    limit: int | None = None
    split: str = ""
    devkit: Path | None = None
    skip_broken: bool = False
    max_pixels: int | None = None

    def __post_init__(self) -> None:
        if self.transform and self.transform not in TRANSFORMS:
            raise unknown("--transform", self.transform, TRANSFORMS)
        for name, value, allowed in (
            ("--image-size", self.image_size, range(1, MAX_SIZE + 1)),
            ("--channels", self.channels, (1, 3)),
            ("--limit", self.limit, range(1, 10**12)),
            ("--max-pixels", self.max_pixels, range(1, 10**12)),
        ):
            if value is not None and value not in allowed:
                among = "1 or 3" if name == "--channels" else f"{allowed[0]} .. {allowed[-1]}"
                raise UserError(f"{name} {value}: allowed: {among}")


class Made(NamedTuple):
    """What a data set stores of an image."""

    item: NDArray[Any]  # of the recipe's shape
    notes: tuple[str, ...] = ()  # what was done to it
    pixels: int = 0  # before it was brought to its size


class Recipe(Protocol):
    """How what a data set stores of an image is made. It is small and can be pickled, as its source."""

    @property
    def source(self) -> Origin: ...

    @property
    def content(self) -> Content:
        """Return what is stored."""

    @property
    def skip_broken(self) -> bool:
        """Return whether broken images are left out."""

    @property
    def max_pixels(self) -> int: ...

    def made(self, entries: Sequence[Entry]) -> Iterator[Made | Broken]:
        """Yield what is stored of each image of a shard, as float32 if it is stored as float16, or why it is
        broken."""

    def error(self, entry: Entry, broken: Broken) -> UserError:
        """Return the error of a broken image that is not left out."""


@dataclass(frozen=True)
class ImageRecipe:
    """How an image of a source becomes pixels of the data set."""

    source: Source
    transform: str
    channels: int
    image_size: int
    max_pixels: int
    skip_broken: bool

    @property
    def content(self) -> Content:
        side = self.image_size
        return Content("pixels", (self.channels, side, side), described(self.transform, side))

    def made(self, entries: Sequence[Entry]) -> Iterator[Made | Broken]:
        for entry in entries:
            try:
                yield self.image(entry)
            except Broken as reason:
                yield reason

    def image(self, entry: Entry) -> Made:
        """Return the pixels (C, H, W); raise Broken if the image cannot be used."""
        content = self.source.read(entry)
        if isinstance(content, bytes):
            image, notes = decode(content, self.max_pixels)
        else:
            image, notes = Image.fromarray(content.squeeze(-1) if content.shape[-1] == 1 else content), ()
        if self.channels == 1 and image.mode not in ("1", "L", "LA"):
            notes = (*notes, "colour to grey")
        elif self.channels == 3 and image.mode in ("1", "L", "LA"):
            notes = (*notes, "grey to colour")
        if min(image.size) < self.image_size:
            notes = (*notes, "enlarged")
        try:
            pixels = as_array(TRANSFORMS[self.transform](in_channels(image, self.channels), self.image_size))
        except CannotTransform as error:
            raise Broken("does not fit", str(error)) from None
        return Made(pixels, notes, image.width * image.height)

    def error(self, entry: Entry, broken: Broken) -> UserError:
        hint = "--max-pixels N allows more, " if broken.reason == HUGE else ""
        return UserError(f"{self.source.naming(entry)}: {broken}; {hint}--skip-broken leaves out such images")


def image_recipe(source: Source, entries: list[Entry], options: Options) -> ImageRecipe:
    """Return how the images of a source are made; UserError if the options do not fit it."""
    shape = source.shape
    for option, given in (("--max-pixels", options.max_pixels is not None), ("--skip-broken", options.skip_broken)):
        if given and shape is not None:
            raise UserError(f"{option}: not used: {source.path} holds arrays, not files of images; leave it out")
    transform = options.transform or (LSUN if source.kind == "lsun" else CENTRE_CROP if shape is None else NONE)
    size = options.image_size
    if transform == NONE:
        own = _first_size(source, entries, options) if shape is None else shape[1:]
        if own is not None and own[0] != own[1]:
            raise UserError(f"{source.path}: has images of {own[1]} x {own[0]} pixels; add --transform {CENTRE_CROP}")
        if own is not None and size not in (None, own[0]):
            raise UserError(
                f"{source.path}: --image-size {size}: its images have {own[0]} x {own[0]} pixels; "
                f"add --transform {CENTRE_CROP}"
            )
        size = size if own is None else own[0]
    if size is None:
        raise UserError(f"{source.path}: add --image-size S, the pixels per side to which its images are brought")
    channels = options.channels or (3 if shape is None else shape[0])
    return ImageRecipe(source, transform, channels, size, options.max_pixels or MAX_PIXELS, options.skip_broken)


def _first_size(source: Source, entries: list[Entry], options: Options) -> tuple[int, int] | None:
    """Return height and width of the first image that is not broken; None if all are."""
    for entry in entries:
        try:
            content = source.read(entry)
            assert isinstance(content, bytes)
            image = decode(content, options.max_pixels or MAX_PIXELS).image
        except Broken as broken:
            if not options.skip_broken:
                raise UserError(f"{source.naming(entry)}: {broken}; --skip-broken leaves out such images") from None
        else:
            return image.height, image.width
    return None
