"""The former name of `diffussm train RUNDIR`, kept for one version: `python -m ablations.cell RUNDIR`."""

import sys

from diffussm.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    sys.exit(main())
