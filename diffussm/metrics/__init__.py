"""How samples are measured: feature extractors, references, distances, and the evaluation of a model."""
