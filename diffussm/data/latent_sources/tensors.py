"""Tensors in `.pt` files, read with PyTorch's `weights_only`: nothing but tensors and containers of them."""

import io
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffussm.data.npz_header import naming_damage
from diffussm.errors import UserError


def tensors(content: bytes, names: tuple[str, ...], what: str) -> list[NDArray[np.float32]]:
    """Return tensors of a dict by their names; UserError, beginning with `what`, if there is anything else.

    They take no more memory than the file is long.
    """
    import torch

    _check_zip(content, what)
    try:
        found: Any = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception:  # torch may raise any exception on a damaged file
        raise UserError(f"{what}: is damaged, or holds more than tensors: a pickle, which is not loaded") from None
    arrays = []
    for name in names:
        tensor = found.get(name) if isinstance(found, dict) else None
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point() or tensor.layout != torch.strided:
            raise UserError(f"{what}: is not a dict that has tensors of floating point as {' and '.join(names)}")
        if tensor.numel() * tensor.element_size() > len(content):
            raise UserError(f"{what}: is damaged: {name} has shape {tuple(tensor.shape)}, more than the file holds")
        arrays.append(tensor.detach().float().numpy())
    return arrays


def _check_zip(content: bytes, what: str) -> None:
    if not content.startswith(b"PK"):
        raise UserError(f"{what}: is not what torch.save writes, a zip")
    with naming_damage(what), zipfile.ZipFile(io.BytesIO(content)) as archive:
        if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
            raise UserError(f"{what}: is not what torch.save writes: it is compressed")
