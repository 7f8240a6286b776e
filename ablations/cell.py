"""The former name of `diffussm train RUNDIR`, kept for one version: `python -m ablations.cell RUNDIR`."""

import sys

from diffussm.run.runner import main

if __name__ == "__main__":
    sys.exit(main())
