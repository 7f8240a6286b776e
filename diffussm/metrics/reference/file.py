"""A reference file: an .npz as ADM's evaluator takes it, and its metadata. No torch; NumPy to read headers.

    arr_0                  uint8 images (N, H, W, C); precision, recall and KID need them
    mu, sigma              mean and covariance of the features of the whole data set
    mu_s, sigma_s          the same of the spatial features (sFID)
    diffussm               written by this package alone: UTF-8 JSON, the origin of the statistics

Frechet distances use the file's statistics if it has any, otherwise those of its images, as in ADM's evaluator.
"""

import json
import zipfile
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from diffussm.data.catalogue import IS_PICKLE, PICKLES
from diffussm.data.npz_header import open_archive, read_header
from diffussm.errors import UserError
from diffussm.store.hashes import file_sha256

METADATA = "diffussm"
_METADATA_LIMIT = 1_000_000  # bytes
_COUNTS = {"samples": 2, "channels": 1, "image_size": 1}  # the least of each in metadata
_TEXTS = ("source", "transform", "extractor", "extractor_sha256", "data_digest")
STATISTICS = {"features": ("mu", "sigma"), "spatial": ("mu_s", "sigma_s")}


class ArrayInfo(NamedTuple):
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
    def headers(self) -> dict[str, ArrayInfo]:
        """Return type and shape of every array; raise UserError if the file is missing, damaged or no .npz."""
        if not self.path.is_file():
            raise UserError(f"{self.path}: no such file")
        if self.path.name.lower().endswith(PICKLES):
            raise UserError(f"{self.path}: {IS_PICKLE}")
        status = self.path.stat()
        return _headers(self.path, status.st_size, status.st_mtime_ns)

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """Return what this package recorded about the statistics: samples, transform, extractor, extractor_sha256,
        source. It is empty for an external file."""
        if METADATA not in self.headers:
            return {}
        try:
            with open_archive(self.path) as file, zipfile.ZipFile(file) as archive:
                info = archive.getinfo(f"{METADATA}.npy")
                size = read_header(archive, info, str(self.path)).size
                metadata = json.loads(archive.read(info)[size:]) if info.file_size <= _METADATA_LIMIT else None
        except (UserError, RecursionError):
            metadata = None
        if not isinstance(metadata, dict) or not _is_plausible(metadata):
            raise UserError(
                f"{self.path}: its array {METADATA}, which describes it, cannot be read by this version; build it "
                "again with `diffussm reference build`"
            )
        return metadata

    @property
    def images(self) -> int:
        return self.headers["arr_0"].shape[0] if "arr_0" in self.headers else 0

    @property
    def image_shape(self) -> tuple[int, int] | None:
        """Return (channels, pixels per side); None if the file does not tell."""
        if "arr_0" in self.headers:
            _, height, _, channels = self.headers["arr_0"].shape
            return channels, height
        return (self.metadata["channels"], self.metadata["image_size"]) if self.metadata else None

    @property
    def kind(self) -> str:
        """Return what Frechet distances use: statistics or images."""
        return "statistics" if "mu" in self.headers else "images"

    @property
    def layers(self) -> tuple[str, ...]:
        """Return the layers that it has statistics of."""
        return tuple(layer for layer, (mean, _) in STATISTICS.items() if mean in self.headers)

    def problem(self) -> str:
        """Return what is wrong with the file, as a message; "" if nothing."""
        try:
            headers, _ = self.headers, self.metadata
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


def _is_plausible(metadata: dict[str, Any]) -> bool:
    """Return whether metadata state the images' shape, and hold counts and texts where this package writes them."""
    counts = {name: metadata[name] for name in _COUNTS if name in metadata}
    texts = [metadata[name] for name in _TEXTS if name in metadata]
    return (
        counts.keys() >= {"channels", "image_size"}
        and all(type(count) is int and _COUNTS[name] <= count < 2**53 for name, count in counts.items())
        and all(isinstance(text, str) for text in texts)
    )


@cache
def _headers(path: Path, _size: int, _changed: int) -> dict[str, ArrayInfo]:
    with open_archive(path) as file, zipfile.ZipFile(file) as archive:
        found = {}
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            header = read_header(archive, info, f"{path}: {name}")
            found[name] = ArrayInfo(header.dtype.str, header.shape)
        return found
