"""Compiled code, made once per process at first use, and the threads that run it.

Compiling takes about twenty seconds; compiled code is kept on disk (`cache`). When several processes start at once, one
compiles and the others wait for it.

torch's own threads run the work where they can be reached, through the OpenMP library that torch has loaded: a second
pool beside it would compete with it for the cores. Elsewhere numba's threads do.
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

from diffussm.ssm.compiled import kernels
from diffussm.ssm.compiled.arguments import arguments_at
from diffussm.ssm.compiled.cache import Cache, with_cache

_OPTIONS: dict[str, Any] = {"error_model": "numpy"}
_numba_lock = threading.RLock()  # one caller at a time compiles or uses threads of numba, not all of which allow more


def run(name: str, args: NDArray[np.int64], threads: int) -> None:
    """Run `kernels.forward` or `.backward` on `args`, the numbers of `KERNEL_ARGUMENTS`, with up to `threads`
    threads."""
    address, openmp = args.ctypes.data, _openmp()
    if threads == 1:
        _c_function(name)(address)
    elif openmp is not None:
        openmp.GOMP_parallel(_c_function(name), ctypes.c_void_p(address), ctypes.c_uint(threads), ctypes.c_uint(0))
    else:
        with _numba_lock:
            before = numba.get_num_threads()
            numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
            try:
                _parallel_function(name)(address, threads)
            finally:
                numba.set_num_threads(before)


def prepare() -> None:
    """Compile the kernels, or load them from the cache; raises whatever numba raises where it cannot."""
    if numba.config.DISABLE_JIT:
        raise RuntimeError("NUMBA_DISABLE_JIT is set")
    for name in ("forward", "backward"):
        _c_function(name)
        if _openmp() is None:
            _parallel_function(name)
    if _openmp() is None:
        _start_threads()


@cache
def _openmp() -> Any:
    """Return torch's library if the OpenMP runtime that it loads has GNU's entry point, else None."""
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        library.GOMP_parallel.restype = None
    except (OSError, AttributeError):
        return None
    return library


@cache
def _c_function(name: str) -> Callable[[int], None]:
    """Return a compiled C function of the arguments' address, which any thread may call."""

    def forward(address):
        kernels.forward(arguments_at(address))

    def backward(address):
        kernels.backward(arguments_at(address))

    function = {"forward": forward, "backward": backward}[name]

    def compile_(cache: Cache | None) -> CFunc:
        made: Any = CFunc(function, ((types.int64,), types.void), locals={}, options=_OPTIONS)
        if cache is not None:
            made._cache = cache
        made.compile()
        return made

    with _numba_lock:
        return with_cache(function, compile_).ctypes


@cache
def _parallel_function(name: str) -> Callable[[int, int], None]:
    def forward_in_parallel(address, threads):
        for _ in prange(threads):
            kernels.forward(arguments_at(address))

    def backward_in_parallel(address, threads):
        for _ in prange(threads):
            kernels.backward(arguments_at(address))

    function = {"forward": forward_in_parallel, "backward": backward_in_parallel}[name]

    def compile_(cache: Cache | None) -> Any:
        made = njit(parallel=True, nogil=True, **_OPTIONS)(function)
        if cache is not None:
            made._cache = cache
        made.compile(types.void(types.int64, types.int64))
        return made

    with _numba_lock:
        return with_cache(function, compile_)


@njit(parallel=True)
def _start_threads():
    for _ in prange(2):
        pass
