"""Preparing a data set of images, or of their latents."""

import dataclasses
import sys
from pathlib import Path
from typing import NamedTuple

from diffussm.data.prepared.manifest import Manifest
from diffussm.data.preparing.build import build
from diffussm.data.preparing.encoding import EncodingOptions, encoding_recipe
from diffussm.data.preparing.recipe import Options, Recipe, image_recipe
from diffussm.data.preparing.selection import AUTO, Selection, select
from diffussm.data.sources.base import Found
from diffussm.data.sources.detect import open_source
from diffussm.distributed.group import SINGLE_PROCESS, ProcessGroup
from diffussm.errors import UserError
from diffussm.vae.facts import vae_facts


class _Work(NamedTuple):
    recipe: Recipe
    found: Found
    selection: Selection


def prepare(
    source: Path,
    out: Path,
    options: Options,
    processes: int = 1,
    encoding: EncodingOptions | None = None,
    group: ProcessGroup = SINGLE_PROCESS,
) -> Manifest:
    """Make the data set `out` of the images of `source`, or of their latents, or continue to make it; return its
    manifest.

    Raises UserError for a source, options or an autoencoder that do not fit, and as `build`. Of the processes of a
    group, rank zero lists the source.
    """
    recipe, found, selection = group.on_rank_zero(lambda: _work(source, options, encoding))
    return build(out, recipe, found, selection, processes, group)


def _work(source: Path, options: Options, encoding: EncodingOptions | None) -> _Work:
    vae = None
    if encoding is not None:
        vae = vae_facts(encoding.vae)
        if options.channels == 1:
            raise UserError("--channels 1: an autoencoder takes 3; leave it out: grey images are repeated in three")
        if options.image_size is not None:
            vae.latent_shape(options.image_size)
        options = dataclasses.replace(options, channels=3)
    images = open_source(source, options.split, options.devkit, labelled=options.labels == AUTO)
    try:
        found = images.listed()
    except MemoryError:
        raise UserError(f"{source}: the list of its images does not fit into memory") from None
    if found.unlabelled and options.labels == AUTO:
        print(f"no classes: {found.unlabelled}", file=sys.stderr, flush=True)
    selection = select(found, options.labels, options.classes, options.limit)
    recipe = image_recipe(images, selection.entries, options)
    if encoding is None or vae is None:
        return _Work(recipe, found, selection)
    return _Work(encoding_recipe(recipe, vae, encoding), found, selection)
