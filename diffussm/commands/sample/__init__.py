"""`diffussm sample`: images of a trained model, as sheets or in a file."""
