"""The schema of a run: what is trained, on what, how, and how it is evaluated. Every default lives here. No torch."""

from pydantic import Field

from diffussm.config.schema.data import LATENT_FIELDS, DataConfig
from diffussm.config.schema.evaluation import SOLVERS, EvaluationConfig
from diffussm.config.schema.model import BACKEND_NAMES, MIXERS, TIMESTEP_FREQUENCIES, Backend, ModelConfig
from diffussm.config.schema.training import Checkpointing, Compilation, DiffusionConfig, TrainingConfig
from diffussm.config.schema.types import SHA256_OR_EMPTY, Count, Positive, Section, Seed, is_external

__all__ = [
    "BACKEND_NAMES",
    "LATENT_FIELDS",
    "MIXERS",
    "SHA256_OR_EMPTY",
    "SOLVERS",
    "TIMESTEP_FREQUENCIES",
    "Backend",
    "Checkpointing",
    "Compilation",
    "Config",
    "Count",
    "DataConfig",
    "DiffusionConfig",
    "EvaluationConfig",
    "ModelConfig",
    "Positive",
    "Section",
    "Seed",
    "TrainingConfig",
    "is_external",
]


class Config(Section):
    """One run."""

    seed: Seed = Field(0, description="seed of every random draw: initial values, order of the data, noise, samples")
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @property
    def outputs(self) -> int:
        """Channels of the network's output: noise, and variance where it is learned."""
        return self.model.channels * (2 if self.diffusion.learned_variance else 1)
