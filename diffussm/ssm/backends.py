"""Properties of the backends that need no torch, so that costs and plans can be computed without it."""

PORTABLE = "chunked"  # plain torch, for any device and precision
ONE_CHUNK = 128  # length of the longest sequence that is one chunk
CHUNK = 32


def backend_for_cost(requested: str) -> str:
    """Return the backend that costs are computed for if no machine is known: the portable one for `auto`."""
    return PORTABLE if requested == "auto" else requested


def chunk_length(length: int) -> int:
    """Return the number of positions in a chunk of a sequence of `length`."""
    return length if length <= ONE_CHUNK else CHUNK
