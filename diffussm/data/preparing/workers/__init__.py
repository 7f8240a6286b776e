"""What makes shards: one process, several of its own (`processes`), or those of torchrun and srun (`ranks`)."""
