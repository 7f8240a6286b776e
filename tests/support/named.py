"""Configs of models by their names in the literature."""

from typing import Any

from diffussm.config import Config
from diffussm.cost.named import named_config


def named(name: str, **model: Any) -> Config:
    """The named model with these changes of fields of the model."""
    return named_config(name, {f"model.{key}": value for key, value in model.items()})
