"""Compiled code, made once per process at first use, and the threads that run it.

Compiling takes some twenty seconds; what was compiled is kept on disk (`cache`). Of several processes that come at
once, one compiles and the others wait for it.

torch's own threads run the work where they can be reached, through the OpenMP library that torch has loaded: a second
pool beside it would fight with it for the cores. Elsewhere numba's threads do. In a process that was forked the threads
of the parent are gone, and waiting for them would never end: there the caller works alone.
"""

import ctypes
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from numba import njit, prange, types
from numba.core.ccallback import CFunc
from numpy.typing import NDArray

from diffussm.ssm.compiled import fork, kernels
from diffussm.ssm.compiled.cache import Cache, with_cache
from diffussm.ssm.compiled.task import task_at

_OPTIONS: dict[str, Any] = {"error_model": "numpy"}
_one_at_a_time = threading.RLock()  # compiling, and numba's threads, of which not every kind bears two callers


def run(name: str, task: NDArray[np.void], threads: int) -> None:
    """`forward` or `backward` of `kernels` on a task (of `task.TASK`, one element), by up to `threads` threads."""
    address, openmp = task.ctypes.data, _openmp()
    if threads == 1 or fork.happened():
        _c_function(name)(address)
    elif openmp is not None:
        openmp.GOMP_parallel(_c_function(name), ctypes.c_void_p(address), ctypes.c_uint(threads), ctypes.c_uint(0))
    else:
        with _one_at_a_time:
            before = numba.get_num_threads()
            numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
            try:
                _on_numbas_threads(name)(address, threads)
            finally:
                numba.set_num_threads(before)


def prepare() -> None:
    """Compile, or load what was compiled; raises whatever numba raises where it cannot."""
    if numba.config.DISABLE_JIT:
        raise RuntimeError("NUMBA_DISABLE_JIT is set")
    for name in ("forward", "backward"):
        _c_function(name)
        if _openmp() is None:
            _on_numbas_threads(name)
    if _openmp() is None:
        _start_threads()


@cache
def _openmp() -> Any:
    """torch's OpenMP library, if it is one that takes GNU's call; through torch's, whose it is."""
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        library.GOMP_parallel.restype = None
    except (OSError, AttributeError):
        return None
    return library


@cache
def _c_function(name: str) -> Callable[[int], None]:
    """Of the task's address, which any thread may call."""

    def forward(address):
        kernels.forward(task_at(address))

    def backward(address):
        kernels.backward(task_at(address))

    function = {"forward": forward, "backward": backward}[name]

    def compile_(kept: Cache | None) -> CFunc:
        made: Any = CFunc(function, ((types.int64,), types.void), locals={}, options=_OPTIONS)
        if kept is not None:
            made._cache = kept
        made.compile()
        return made

    with _one_at_a_time:
        return with_cache(function, compile_).ctypes


@cache
def _on_numbas_threads(name: str) -> Callable[[int, int], None]:
    def forward_in_parallel(address, threads):
        for _ in prange(threads):
            kernels.forward(task_at(address))

    def backward_in_parallel(address, threads):
        for _ in prange(threads):
            kernels.backward(task_at(address))

    function = {"forward": forward_in_parallel, "backward": backward_in_parallel}[name]

    def compile_(kept: Cache | None) -> Any:
        made = njit(parallel=True, nogil=True, **_OPTIONS)(function)
        if kept is not None:
            made._cache = kept
        made.compile(types.void(types.int64, types.int64))
        return made

    with _one_at_a_time:
        return with_cache(function, compile_)


@njit(parallel=True)
def _start_threads():
    for _ in prange(2):
        pass
