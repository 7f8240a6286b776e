"""Where runs are worked on: `debug` in this process, `local` in a pool of worker processes."""
