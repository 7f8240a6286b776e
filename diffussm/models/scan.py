"""The order in which a sequence model visits the tokens of a square image."""

import torch
from torch import Tensor


def scan_order(name: str, side: int) -> Tensor:
    """Return the raster indices (side^2,) of the tokens in the order of scan `name`.

    `raster`: row by row. `serpentine`: row by row, every second row from right to left. `hilbert`: Hilbert's curve
    (1891), for a side that is a power of two. In the last two, neighbours in the sequence are neighbours in the image.
    """
    raster = torch.arange(side * side).view(side, side)
    match name:
        case "raster":
            return raster.flatten()
        case "serpentine":
            raster[1::2] = raster[1::2].flip(1)
            return raster.flatten()
        case "hilbert":
            row, column = _hilbert(side)
            return raster[row, column]
    raise ValueError(f"unknown scan {name!r}")


def _hilbert(side: int) -> tuple[Tensor, Tensor]:
    """Return rows and columns along the curve: doubling the side makes four copies, the first and last transposed."""
    row, column = torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long)
    size = 1
    while size < side:
        last = size - 1
        row, column = (
            torch.cat([column, row, row + size, 2 * size - 1 - column]),
            torch.cat([row, column + size, column + size, last - row]),
        )
        size *= 2
    return row, column
