"""What the command line does with runs and files."""
