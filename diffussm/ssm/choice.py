"""Facts of the backends that need no torch, so that costs and plans can be made without it."""

BACKEND_NAMES = ("reference", "fft", "chunked", "compiled")
PORTABLE = "chunked"  # in plain torch, on any device and in any precision
ONE_CHUNK = 128  # longest sequence that is one chunk
CHUNK = 32


def stated(requested: str) -> str:
    """The backend whose cost is stated where no machine is known: for `auto` the portable one."""
    return PORTABLE if requested == "auto" else requested


def chunk_length(length: int) -> int:
    """Positions of a chunk, for a sequence of `length`."""
    return length if length <= ONE_CHUNK else CHUNK
