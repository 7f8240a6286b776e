"""Whether this process was forked since this module was imported. No numba, so that it can be imported early."""

import os

_process = os.getpid()


def happened() -> bool:
    return os.getpid() != _process
