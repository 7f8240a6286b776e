"""Which backend computes S4D, and in what chunks: known without torch, so that costs are."""

ONE_CHUNK = 128  # longest sequence that is one chunk
CHUNK = 32


def choose_backend(requested: str) -> str:
    """The name of the backend that computes: `auto` takes the fastest known."""
    return "chunked" if requested == "auto" else requested


def chunk_length(length: int) -> int:
    """Positions of a chunk of the chunked backend, for a sequence of `length`."""
    return length if length <= ONE_CHUNK else CHUNK
