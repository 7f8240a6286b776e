"""Whether this process was forked since this module was imported. No numba, so that it can be imported early.

In a process that was forked before, from one that had computed with torch's threads, torch itself would wait for ever.
"""

import os

_process = os.getpid()


def happened() -> bool:
    return os.getpid() != _process
