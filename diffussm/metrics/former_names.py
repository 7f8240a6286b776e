"""Former names of modules, which still work: extractors written for them import from them or name networks in them.

An evaluation key contains the name of an extractor's network, such as `diffussm.metrics.inception:Inception`, so a user
who changed it would get another key for the same measurement.
"""

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

FORMER_NAMES = {
    "diffussm.metrics.catalogue": "diffussm.metrics.features.registry",
    "diffussm.metrics.inception": "diffussm.metrics.features.inception",
    "diffussm.metrics.small_cnn": "diffussm.metrics.features.small_cnn",
    "diffussm.metrics.weights_file": "diffussm.metrics.features.weights_file",
}


class FormerNamesFinder(MetaPathFinder, Loader):
    """Imports a module under its former name; the result is the same module object as under its present name."""

    def find_spec(self, fullname: str, *_: Any, **__: Any) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in FORMER_NAMES else None

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = import_module(FORMER_NAMES[module.__name__])


def install() -> None:
    """Make the former names importable; they are looked up only where no module has such a name."""
    sys.meta_path.append(FormerNamesFinder())
