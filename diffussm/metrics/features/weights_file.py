"""Weights files by their published names: where they come from, where they are looked for, and their hashes.

Nothing is ever downloaded. No torch.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from diffussm.errors import UserError
from diffussm.store.hashes import file_sha256

ENVIRONMENT = "DIFFUSSM_WEIGHTS"  # a file, or a folder of files under their published names


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights by its published name; `shipped` is its path if this package contains it."""

    name: str
    sha256: str
    origin: str
    shipped: Path | None = None

    def path(self, given: str = "") -> Path | None:
        """Return the path: shipped, at `given` (a file or a folder), or at $DIFFUSSM_WEIGHTS; None if it is at none."""
        if self.shipped:
            return self.shipped
        for place in filter(None, (given, os.environ.get(ENVIRONMENT, ""))):
            path = Path(place).expanduser()
            candidates = (path.with_name(self.name), path) if path.is_file() else (path / self.name,)
            for candidate in candidates:
                if candidate.is_file():
                    return candidate
        return None

    def missing_requirement(self, given: str = "") -> str:
        """Return what is missing or wrong; "" if the file is there and has the right hash."""
        path = self.path(given)
        if path is None or not path.is_file():
            where_from = "`diffussm weights` says where it comes from and where to put it"
            return f"needs weights file {self.name}{self._looked_in(given)}; {where_from}"
        if (found := file_sha256(path)) != self.sha256:
            hashes = f"sha256 {found[:12]}..., expected {self.sha256[:12]}..."
            return f"{path} has {hashes}; it is damaged or another file"
        return ""

    def download_advice(self, given: str = "") -> str:
        """Return where the file was looked for, where it can be downloaded and where to put it."""
        return (
            f"{self.name} not found{self._looked_in(given)}; download it from {self.origin}, put it into a folder, "
            f"and give the folder as --extractor-weights or in ${ENVIRONMENT}"
        )

    def _looked_in(self, given: str) -> str:
        places = " or ".join(filter(None, (given, os.environ.get(ENVIRONMENT, ""))))
        return f" (not in {places})" if places else ""

    def read(self, given: str = "") -> bytes:
        """Return the file's bytes after checking their hash; raise UserError if it is missing or the hash differs."""
        path = self.path(given)
        if path is None:
            raise UserError(self.missing_requirement(given))
        content = path.read_bytes()
        if (found := hashlib.sha256(content).hexdigest()) != self.sha256:
            raise UserError(f"{path}: weights have sha256 {found}, expected {self.sha256}")
        return content


CLEAN_FID = WeightsFile(
    "inception-2015-12-05.pt",
    "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
    "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
)
INCEPTION = WeightsFile(
    "weights-inception-2015-12-05-6726825d.pth",
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
)
