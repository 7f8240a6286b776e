"""How an image becomes latents of the data set: an autoencoder encodes it, and its mirror image where asked."""

import functools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffussm.data.prepared.manifest import Encoding, LatentFacts
from diffussm.data.prepared.writer import Content
from diffussm.data.preparing.latent_options import Numbers, black_and_white, check_dtype, of_channels
from diffussm.data.preparing.recipe import ImageRecipe, Made
from diffussm.data.sources.base import Broken, Entry, Source
from diffussm.errors import UserError
from diffussm.host.machine import processor, usable_cores
from diffussm.vae.facts import VaeFacts

if TYPE_CHECKING:
    from diffussm.vae.autoencoder import Autoencoder, Precision

DECODERS = 16  # threads that decode images, at most
AHEAD = 3  # batches that are decoded before they are wanted
MOST_AT_ONCE = 4096
Image = Made | Broken


@dataclass(frozen=True)
class EncodingOptions:
    """How images are encoded by the autoencoder in the folder `vae`. None and "" leave the choice to the autoencoder
    and the machine. UserError for values that none allows."""

    vae: Path
    flips: bool = False
    batch: int = 32
    precision: str = "float32"
    dtype: str = "float32"
    scale: Numbers | None = None
    shift: Numbers | None = None
    vae_range: Numbers = (-1.0, 1.0)
    device: str = ""

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("--precision", self.precision, ("float32", "bf16")),
            ("--device", self.device, ("", "cuda", "cpu")),
        ):
            if value not in allowed:
                raise UserError(f"{name} {value}: allowed: {' or '.join(filter(None, allowed))}")
        check_dtype(self.dtype)
        black_and_white(self.vae_range)
        if not 1 <= self.batch <= MOST_AT_ONCE:
            raise UserError(f"--batch {self.batch}: allowed: 1 .. {MOST_AT_ONCE}")


def encoding_options(vae: Path | None, **given: Any) -> EncodingOptions | None:
    """Return the options that are given, without those that are None; None without a VAE.

    Raises UserError for an option that is given without a VAE.
    """
    options = {name: value for name, value in given.items() if value is not None}
    if vae is not None:
        return EncodingOptions(vae, **options)
    for name in options:
        raise UserError(f"--{name.replace('_', '-')}: is of latents: add --vae FOLDER, or leave it out")
    return None


class _Batch(NamedTuple):
    """Images that are encoded at once: zeros where there is none, or a broken one."""

    entries: Sequence[Entry]
    pixels: NDArray[np.uint8]  # (B, 3, H, W)
    images: list[Future[Image]]  # which fill the pixels


@dataclass(frozen=True)
class EncodingRecipe:
    """How an image of a source becomes mean and standard deviation of its posterior, and of its mirror image's.

    Images are encoded in batches of one shape, image i of a shard always at the same place of its batch: so the bytes
    depend neither on the number of processes nor on which images are broken. On a CPU, one thread computes.
    """

    images: ImageRecipe
    vae: VaeFacts
    content: Content
    device: str  # cuda | cpu

    @property
    def source(self) -> Source:
        return self.images.source

    @property
    def skip_broken(self) -> bool:
        return self.images.skip_broken

    @property
    def max_pixels(self) -> int:
        return self.images.max_pixels

    def error(self, entry: Entry, broken: Broken) -> UserError:
        return self.images.error(entry, broken)

    @property
    def encoding(self) -> Encoding:
        assert self.content.latents is not None
        assert self.content.latents.encoding is not None
        return self.content.latents.encoding

    def made(self, entries: Sequence[Entry]) -> Iterator[Image]:
        """Yield mean and standard deviation of each image and its mirror image, (F, 2, C, h, w), or why it is broken.

        Threads decode images while those of batches before are encoded.
        """
        size = self.encoding.batch
        pool = ThreadPoolExecutor(min(DECODERS, usable_cores()))
        pending: deque[_Batch] = deque()
        try:
            for start in range(0, len(entries), size):
                part = entries[start : start + size]
                pixels = np.zeros((size, *self.images.content.shape), dtype=np.uint8)
                images = [pool.submit(self._decode, *given) for given in zip(part, pixels, strict=False)]
                pending.append(_Batch(part, pixels, images))
                if len(pending) > AHEAD:
                    yield from self._encoded(pending.popleft())
            while pending:
                yield from self._encoded(pending.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _decode(self, entry: Entry, pixels: NDArray[np.uint8]) -> Image:
        """Put the image into `pixels`, and return the rest of what is known of it, or why it is broken."""
        try:
            made = self.images.image(entry)
        except Broken as reason:
            return reason
        pixels[:] = made.item
        return made._replace(item=pixels)

    def _encoded(self, batch: _Batch) -> Iterator[Image]:
        """Yield what is stored of each image of a batch."""
        entries, pixels, futures = batch
        images = [future.result() for future in futures]
        moments = np.stack([self._moments(pixels, mirrored) for mirrored in (False, True)[: self.content.views]], 1)
        for entry, image, item in zip(entries, images, moments, strict=False):
            if isinstance(image, Broken):
                yield image
            elif np.isfinite(item).all():
                yield image._replace(item=item)
            else:
                exact = self.encoding.precision == "float32"
                advice = "restore the weights of the VAE" if exact else "add --precision float32"
                raise UserError(f"{self.source.naming(entry)}: its encoding is not finite; {advice}")

    def _moments(self, pixels: NDArray[np.uint8], mirrored: bool) -> NDArray[np.float32]:
        latents = self.content.latents
        assert latents is not None
        autoencoder = _autoencoder(self.vae, self.device, self.encoding, latents.vae_range)
        with _one_thread():
            return autoencoder.moments(pixels, mirrored)


def encoding_recipe(images: ImageRecipe, vae: VaeFacts, options: EncodingOptions) -> EncodingRecipe:
    """Return how images that become pixels as `images` says are encoded; UserError if the options do not fit the
    autoencoder, or the device is not there."""
    device = _kind_of_device(options.device)
    side = images.image_size
    latents = LatentFacts(
        vae_sha256=vae.sha256,
        vae_range=black_and_white(options.vae_range),
        scale=of_channels("--scale", options.scale or vae.scale, vae.channels),
        shift=of_channels("--shift", options.shift or vae.shift, vae.channels),
        scaled=False,
        decoded_size=side,
        baked=(),
        dtype="float16" if options.dtype == "float16" else "float32",
        encoding=Encoding(device=_device_name(device), precision=options.precision, batch=options.batch),
    )
    flips: Literal["none", "paired"] = "paired" if options.flips else "none"
    content = Content("mean-std", vae.latent_shape(side), images.content.transform, flips, latents)
    return EncodingRecipe(images, vae, content, device)


def _kind_of_device(asked: str) -> str:
    import torch

    if asked == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: this machine has no GPU that torch can use")
    return asked or ("cuda" if torch.cuda.is_available() else "cpu")


def _device_name(device: str) -> str:
    import torch

    return processor() if device == "cpu" else torch.cuda.get_device_name(device)


@functools.lru_cache(maxsize=1)
def _autoencoder(facts: VaeFacts, device: str, encoding: Encoding, vae_range: tuple[float, float]) -> "Autoencoder":
    """Return the autoencoder, which a process loads once; UserError if it is not the one of the recipe, or this
    process has another device."""
    from diffussm.distributed.group import select_device_of_kind
    from diffussm.vae.autoencoder import Autoencoder

    precision: Precision = "bf16" if encoding.precision == "bf16" else "float32"
    selected = select_device_of_kind(device)
    if (name := _device_name(selected)) != encoding.device:
        raise UserError(f"this process has {name}, rank zero {encoding.device}: take devices of one kind")
    autoencoder = Autoencoder(facts.folder, selected, precision, vae_range)
    if autoencoder.facts.sha256 != facts.sha256:
        raise UserError(f"{facts.folder}: the autoencoder has changed meanwhile; give the command again")
    return autoencoder


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute with one thread: with others, the last bits differ."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
