"""Preparing a data set of images."""

from pathlib import Path

from diffussm.data.prepared.manifest import Manifest
from diffussm.data.preparing.build import build
from diffussm.data.preparing.recipe import Options, image_recipe
from diffussm.data.preparing.selection import AUTO, select
from diffussm.data.sources.detect import open_source


def prepare(source: Path, out: Path, options: Options, processes: int = 1) -> Manifest:
    """Make the data set `out` of the images of `source`, or continue to make it; return its manifest.

    Raises UserError for a source or options that do not fit, and as `build`.
    """
    images = open_source(source, options.split, options.devkit, labelled=options.labels == AUTO)
    found = images.listed()
    selection = select(found, options.labels, options.classes, options.limit)
    return build(out, image_recipe(images, selection.entries, options), found, selection, processes)
