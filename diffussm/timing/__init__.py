"""The one timer: benchmarks, ratios and calibration all measure through it.

A CUDA call returns before its work is done, so the clock waits for the device; once per reading, not once per call
inside what is timed. Ratios are measured in turns (A B, B A, ...), so that a change of the machine's speed meets both,
and so does what one leaves in the caches.
"""

from diffussm.timing.intervals import CONFIDENCE, FEWEST, Timing, ratio, summarise
from diffussm.timing.machine import clocks, machine_card
from diffussm.timing.memory import peak_memory
from diffussm.timing.rounds import clock, in_turns, seconds_of

__all__ = [
    "CONFIDENCE",
    "FEWEST",
    "Timing",
    "clock",
    "clocks",
    "in_turns",
    "machine_card",
    "peak_memory",
    "ratio",
    "seconds_of",
    "summarise",
]
