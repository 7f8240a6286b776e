"""A reference file: an .npz as ADM's evaluator takes it, and what it states of itself. No torch; NumPy to read headers.

    arr_0                  uint8 images (N, H, W, C); precision, recall and KID need them
    mu, sigma              mean and covariance of the features of the whole data set
    mu_s, sigma_s          the same of the spatial features (sFID)
    diffussm               written by this package alone: UTF-8 JSON, what the statistics are of and how they were made

Where statistics are there Frechet distances are to them, else to the images' own, as ADM's evaluator has it.
"""

import json
import zipfile
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from diffussm.data.npz_header import open_archive, read_header
from diffussm.errors import UserError
from diffussm.store.hashes import file_sha256

STATED = "diffussm"
STATISTICS = {"features": ("mu", "sigma"), "spatial": ("mu_s", "sigma_s")}


def is_file(reference: str) -> bool:
    """Whether a reference is given as a file, not as a data set's name."""
    return reference.endswith(".npz")


class Header(NamedTuple):
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ReferenceFile:
    path: Path

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def sha256(self) -> str:
        return file_sha256(self.path)

    @cached_property
    def headers(self) -> dict[str, Header]:
        """Type and shape of every array; UserError if the file is not there, is damaged or is no .npz."""
        if not self.path.is_file():
            raise UserError(f"{self.path}: no such file")
        status = self.path.stat()
        return _headers(self.path, status.st_size, status.st_mtime_ns)

    @cached_property
    def stated(self) -> dict[str, Any]:
        """What this package wrote of the statistics: samples, transform, extractor, extractor_sha256, source; empty of
        a file from elsewhere."""
        if STATED not in self.headers:
            return {}
        try:
            with open_archive(self.path) as file, zipfile.ZipFile(file) as archive:
                info = archive.getinfo(f"{STATED}.npy")
                size = read_header(archive, info, str(self.path)).size
                stated = json.loads(archive.read(info)[size:])
        except UserError:
            stated = None
        if not isinstance(stated, dict) or not {"channels", "image_size"} <= stated.keys():
            raise UserError(
                f"{self.path}: its array {STATED}, which describes it, cannot be read by this version; build it "
                "again with `diffussm reference build`"
            )
        return stated

    @property
    def images(self) -> int:
        return self.headers["arr_0"].shape[0] if "arr_0" in self.headers else 0

    @property
    def image_shape(self) -> tuple[int, int] | None:
        """(channels, pixels a side), None where the file says nothing of its images."""
        if "arr_0" in self.headers:
            _, height, _, channels = self.headers["arr_0"].shape
            return channels, height
        return (self.stated["channels"], self.stated["image_size"]) if self.stated else None

    @property
    def kind(self) -> str:
        """Of what its Frechet distances are: statistics or images."""
        return "statistics" if "mu" in self.headers else "images"

    @property
    def layers(self) -> tuple[str, ...]:
        """Those that it has statistics of."""
        return tuple(layer for layer, (mean, _) in STATISTICS.items() if mean in self.headers)

    def missing_requirement(self) -> str:
        """What is wrong, in words; empty where the file is there and whole."""
        try:
            headers, _ = self.headers, self.stated
        except UserError as error:
            return str(error).removeprefix(f"{self.path}: ")
        if not {"arr_0", "mu"} & headers.keys():
            return f"has neither arr_0 nor mu, but {', '.join(sorted(headers)) or 'nothing'}"
        if "arr_0" in headers and (headers["arr_0"].dtype != "|u1" or len(headers["arr_0"].shape) != 4):
            found = headers["arr_0"]
            return f"arr_0 is {found.dtype} of shape {found.shape}, not uint8 (N, H, W, C)"
        if "arr_0" in headers and (
            0 in (shape := headers["arr_0"].shape) or shape[1] != shape[2] or shape[3] not in (1, 3)
        ):
            return f"arr_0 is of shape {shape}; allowed: (N, H, W, C), squares with 1 or 3 channels C"
        for mean, covariance in STATISTICS.values():
            if mean in headers and len(headers[mean].shape) != 1:
                return f"{mean} of shape {headers[mean].shape}, not of one axis"
            if mean in headers and (covariance not in headers or headers[covariance].shape != headers[mean].shape * 2):
                return f"{mean} without a {covariance} of its size"
        return ""


@cache
def _headers(path: Path, _size: int, _changed: int) -> dict[str, Header]:
    with open_archive(path) as file, zipfile.ZipFile(file) as archive:
        found = {}
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            header = read_header(archive, info, f"{path}: {name}")
            found[name] = Header(header.dtype.str, header.shape)
        return found
