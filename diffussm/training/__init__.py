"""Training of one run: the loop, its state on disk, the moving average of its weights."""
