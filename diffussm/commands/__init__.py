"""The work behind the subcommands of `diffussm`, on runs and files."""
