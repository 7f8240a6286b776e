"""DiffuSSM, attention-free diffusion models: one model, one run, and how both are measured.

The public names are loaded when they are first asked for; `import diffussm` itself loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffussm.api import build, evaluate, load, sample, save
    from diffussm.commands.check_mixer import check_mixer
    from diffussm.config import resolve
    from diffussm.data.catalogue import DataFacts
    from diffussm.metrics.features.registry import ExtractorFacts

__version__ = "0.1.0"
__all__ = ["DataFacts", "ExtractorFacts", "build", "check_mixer", "evaluate", "load", "resolve", "sample", "save"]

_DEFINED_ELSEWHERE = {
    "DataFacts": "diffussm.data.catalogue",
    "ExtractorFacts": "diffussm.metrics.features.registry",
    "check_mixer": "diffussm.commands.check_mixer",
    "resolve": "diffussm.config",
}

if not TYPE_CHECKING:  # else type checkers would accept any name

    def __getattr__(name: str) -> Any:
        """Load a public name from the module that defines it."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_DEFINED_ELSEWHERE.get(name, "diffussm.api")), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
