"""What a SLURM cluster is asked and told, but for the submission itself (`ablations.executors.slurm`). No submitit."""
