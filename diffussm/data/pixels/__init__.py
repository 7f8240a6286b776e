"""Sets of uint8 images that need not fit memory, read in pieces: arrays, ADM's .npz files, folders of PNG.

ADM's format (guided-diffusion, `evaluations/`): `arr_0`, uint8 (N, H, W, C), in a zip of .npy files; labels in `arr_1`,
statistics beside them. Nothing here unpickles. Photographs, which are brought to one size, are in `data.preparing`.
"""

from pathlib import Path

from diffussm.data.pixels.base import ArrayPixels, Pixels, Shape
from diffussm.data.pixels.npz import NpzPixels, read_arrays
from diffussm.data.pixels.npz_writer import write_npz
from diffussm.data.pixels.png_folder import FolderPixels

__all__ = ["ArrayPixels", "FolderPixels", "NpzPixels", "Pixels", "Shape", "open_pixels", "read_arrays", "write_npz"]


def open_pixels(path: Path) -> Pixels:
    """Return the images of a folder of PNG files or of an .npz; raise UserError if it is neither."""
    return FolderPixels(path) if path.is_dir() else NpzPixels(path)
