"""Provenance of a result: code, packages, hardware and time."""

import platform
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from diffussm.host import external_code
from diffussm.host.clock import utc
from diffussm.host.machine import processor, usable_cores
from diffussm.host.source import origin

CREATED = "created"  # in provenance: when what it describes was made
EXTERNAL_CODE = "external_code"  # in provenance: digests of code from outside this package, by module
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "pydantic", "safetensors", "einops", "numba", "llvmlite")


def describe(external: Iterable[str] = ()) -> dict[str, Any]:
    """Return the code's digest, its commit and dirty flag (None outside a checkout), versions, the machine, and
    the time; digests of the source of those of the `external` names that are a `package.module:NAME`."""
    of_external = external_code.digests(external)
    return {
        "command": sys.argv,
        **origin(),
        **({EXTERNAL_CODE: of_external} if of_external else {}),
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
