"""The evaluation of samples: feature extractors, references, metrics, and the evaluation of a model."""

from diffussm.metrics import former_names

former_names.install()
