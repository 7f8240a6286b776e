"""Classes from outside this package, named as `package.module:Class`."""

import importlib
from typing import Any

from diffussm.errors import UserError
from diffussm.host.external_code import search_working_directory


def external_class(field: str, name: str) -> Any:
    """Return what `package.module:Class` names, imported from sys.path or the working directory; raise UserError, which
    names the config field, if there is no such thing."""
    module, _, attribute = name.partition(":")
    search_working_directory()
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == module
        advice = f"; run from the folder that contains {module}.py, or set PYTHONPATH" if missing else ""
        raise UserError(f"{field} = {name!r}: {error}{advice}") from None
