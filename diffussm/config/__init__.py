"""The config of a run. No torch.

`schema` has its fields and defaults, `fields` lists them, `resolution` makes a config from a base and overrides, and
`identity` names runs and requests.
"""

from diffussm.config.identity import (
    SCHEMA_VERSION,
    Request,
    digest,
    request,
    run_id,
    trajectory,
    without_new_defaults,
)
from diffussm.config.overrides import changed, keys, parse_settings, parse_value, split_key
from diffussm.config.resolution import BASES, bases, load_base, resolve, validate
from diffussm.config.schema import (
    MIXERS,
    SOLVERS,
    TIMESTEP_FREQUENCIES,
    Config,
    DataConfig,
    DiffusionConfig,
    EvaluationConfig,
    ModelConfig,
    Section,
    TrainingConfig,
    is_external,
)

__all__ = [
    "BASES",
    "MIXERS",
    "SCHEMA_VERSION",
    "SOLVERS",
    "TIMESTEP_FREQUENCIES",
    "Config",
    "DataConfig",
    "DiffusionConfig",
    "EvaluationConfig",
    "ModelConfig",
    "Request",
    "Section",
    "TrainingConfig",
    "bases",
    "changed",
    "digest",
    "is_external",
    "keys",
    "load_base",
    "parse_settings",
    "parse_value",
    "request",
    "resolve",
    "run_id",
    "split_key",
    "trajectory",
    "validate",
    "without_new_defaults",
]
