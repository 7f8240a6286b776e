"""The timer that benchmarks, the choice of a backend and calibration use.

A CUDA call returns before its work is done, so the clock first waits for the device: once per reading, not once per
call inside the timed function. Functions are compared in turns (A B, B A, ...), so that a change of the machine's speed
affects both, as does what one leaves in the caches.
"""

from diffussm.timing.intervals import CONFIDENCE, MIN_ROUNDS, Timing, ratio, summarise
from diffussm.timing.machine import clock_rates, machine_card
from diffussm.timing.memory import peak_memory
from diffussm.timing.rounds import seconds_of, synchronised_time, time_interleaved

__all__ = [
    "CONFIDENCE",
    "MIN_ROUNDS",
    "Timing",
    "clock_rates",
    "machine_card",
    "peak_memory",
    "ratio",
    "seconds_of",
    "summarise",
    "synchronised_time",
    "time_interleaved",
]
