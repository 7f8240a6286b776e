"""DiffuSSM, attention-free diffusion models: one model, one run, and how both are measured."""

__version__ = "0.1.0"
