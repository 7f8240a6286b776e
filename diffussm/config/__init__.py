"""The config of a run. No torch.

`schema` has its fields and defaults, `fields` lists them, `recipes` reads bases, `resolution` makes a config from a
base and overrides, and `identity` names runs and requests.
"""

from diffussm.config.identity import (
    SCHEMA_VERSION,
    Request,
    digest,
    dropped_milestones,
    run_id,
    trajectory,
    without_later_defaults,
)
from diffussm.config.origin import naming_inherited
from diffussm.config.overrides import apply_overrides, config_keys, parse_settings, parse_value, split_key
from diffussm.config.paths import absolute, is_extractor_file, is_npz_name
from diffussm.config.recipes import BASES, FROM_DATA, base_name, bases, check_base, is_recipe_file, load_base
from diffussm.config.resolution import merge, resolve, validate
from diffussm.config.schema import (
    BACKEND_NAMES,
    LATENT_FIELDS,
    MIXERS,
    SOLVERS,
    TIMESTEP_FREQUENCIES,
    Checkpointing,
    Compilation,
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
    "BACKEND_NAMES",
    "BASES",
    "FROM_DATA",
    "LATENT_FIELDS",
    "MIXERS",
    "SCHEMA_VERSION",
    "SOLVERS",
    "TIMESTEP_FREQUENCIES",
    "Checkpointing",
    "Compilation",
    "Config",
    "DataConfig",
    "DiffusionConfig",
    "EvaluationConfig",
    "ModelConfig",
    "Request",
    "Section",
    "TrainingConfig",
    "absolute",
    "apply_overrides",
    "base_name",
    "bases",
    "check_base",
    "config_keys",
    "digest",
    "dropped_milestones",
    "is_external",
    "is_extractor_file",
    "is_npz_name",
    "is_recipe_file",
    "load_base",
    "merge",
    "naming_inherited",
    "parse_settings",
    "parse_value",
    "resolve",
    "run_id",
    "split_key",
    "trajectory",
    "validate",
    "without_later_defaults",
]
