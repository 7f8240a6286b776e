"""What jobs of a cluster do, on its nodes."""
