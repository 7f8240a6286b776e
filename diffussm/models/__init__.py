"""Networks (x_t, t, y) -> prediction, built from a ModelConfig."""
