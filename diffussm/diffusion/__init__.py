"""The diffusion process: its schedule, its losses and its samplers. Knows models only as functions."""
