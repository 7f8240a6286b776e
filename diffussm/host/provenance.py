"""Provenance of a result: code, packages, hardware and time."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from diffussm.host.clock import utc
from diffussm.host.machine import processor, usable_cores
from diffussm.host.source import origin

CREATED = "created"  # in provenance: when what it describes was made
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "pydantic", "safetensors", "einops", "numba", "llvmlite")


def describe() -> dict[str, Any]:
    """Return the code's digest, its commit and dirty flag (None outside a checkout), versions, the machine, and
    the time."""
    return {
        "command": sys.argv,
        **origin(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "machine": hardware(),
        CREATED: utc(),
    }


def versions() -> dict[str, str]:
    """Return the versions of this package, Python, torch and NumPy."""
    found = {name: _version(name) for name in ("diffussm", "torch", "numpy")}
    return {"python": platform.python_version(), **{name: version for name, version in found.items() if version}}


def hardware() -> dict[str, Any]:
    """Return the host, operating system, processor, usable cores and GPU."""
    return {
        "host": platform.node(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": processor(),
        "cores": usable_cores(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
