"""Checkpoints of a run: their files, and the thread that writes them beside the training."""
