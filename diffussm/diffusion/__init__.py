"""The diffusion process: schedules, losses and samplers. A model is a function here."""
