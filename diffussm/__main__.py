"""`python -m diffussm`, the same as the command `diffussm`."""

import sys

from diffussm.cli import main

sys.exit(main())
