"""Properties of the backends that need no torch, so that costs and plans can be computed without it."""

PORTABLE = "chunked"  # plain torch, for any device and precision
ONE_CHUNK = 128  # length of the longest sequence that is one chunk
CHUNK = 32


def stated(requested: str) -> str:
    """Return the backend whose cost is stated where no machine is known: for `auto` the portable one."""
    return PORTABLE if requested == "auto" else requested


def chunk_length(length: int) -> int:
    """Return the number of positions in a chunk of a sequence of `length`."""
    return length if length <= ONE_CHUNK else CHUNK
