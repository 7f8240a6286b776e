"""DiffuSSM, attention-free diffusion models: one model, one run, and how both are measured.

The public names are loaded when they are first asked for; `import diffussm` itself loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffussm.api import build, evaluate, load, sample, save
    from diffussm.commands.check_mixer import check_mixer
    from diffussm.data.catalogue import DataFacts
    from diffussm.data.lookup.resolution import resolve_with_data as resolve
    from diffussm.metrics.features.registry import ExtractorFacts

__version__ = "0.1.0"
__all__ = ["DataFacts", "ExtractorFacts", "build", "check_mixer", "evaluate", "load", "resolve", "sample", "save"]

_DEFINED_ELSEWHERE = {
    "DataFacts": "diffussm.data.catalogue:DataFacts",
    "ExtractorFacts": "diffussm.metrics.features.registry:ExtractorFacts",
    "check_mixer": "diffussm.commands.check_mixer:check_mixer",
    "resolve": "diffussm.data.lookup.resolution:resolve_with_data",
}

if not TYPE_CHECKING:  # else type checkers would accept any name

    def __getattr__(name: str) -> Any:
        """Load a public name from the module that defines it."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, _, attribute = _DEFINED_ELSEWHERE.get(name, f"diffussm.api:{name}").partition(":")
        value = getattr(import_module(module), attribute)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
