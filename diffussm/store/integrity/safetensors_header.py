"""The header of a safetensors file: tensors by name, and metadata. No torch.

8 bytes, little-endian: the length of the header; the header, JSON padded with spaces; then the tensors, without gaps.
"""

import json
from collections.abc import Iterable, Mapping
from math import prod
from typing import Any, NamedTuple

BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
METADATA = "__metadata__"
LENGTH_BYTES, ALIGNMENT = 8, 8
MAX_HEADER = 100_000_000  # of the reference implementation


class TensorEntry(NamedTuple):
    """A tensor in a file: `start` is its first byte, counted from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        return BYTES[self.dtype] * prod(self.shape)


def layout(tensors: Iterable[tuple[str, str, tuple[int, ...]]]) -> list[TensorEntry]:
    """Return the tensors (name, dtype, shape) in the order of the reference implementation: widest dtype first."""
    entries: list[TensorEntry] = []
    for name, dtype, shape in sorted(tensors, key=lambda tensor: (-BYTES[tensor[1]], tensor[0])):
        start = entries[-1].start + entries[-1].size if entries else 0
        entries.append(TensorEntry(name, dtype, shape, start))
    return entries


def to_bytes(entries: Iterable[TensorEntry], metadata: Mapping[str, str]) -> bytes:
    """Return the length and the header of a file."""
    content: dict[str, Any] = {METADATA: dict(metadata)}
    for entry in entries:
        offsets = [entry.start, entry.start + entry.size]
        content[entry.name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": offsets}
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def parse(text: bytes, data_size: int) -> tuple[dict[str, str], list[TensorEntry]]:
    """Return the metadata and the tensors of a header; raise ValueError unless they fill `data_size` bytes."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("its header is not valid JSON") from None
    if not isinstance(content, dict):
        raise ValueError("its header is not a JSON object")
    metadata = content.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("the metadata in its header are not texts")
    entries = sorted((_entry(name, fields) for name, fields in content.items()), key=lambda e: (e.start, e.size))
    end = 0
    for entry in entries:
        if entry.start != end:
            raise ValueError(f"{entry.name} does not begin where the tensor before it ends")
        end += entry.size
    if end != data_size:
        raise ValueError(f"it has {data_size:,} bytes of tensors, but its header says {end:,}")
    return metadata, entries


def _entry(name: str, fields: Any) -> TensorEntry:
    if not isinstance(fields, dict) or fields.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name}: not the description of a tensor")
    dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if dtype not in BYTES:
        raise ValueError(f"{name}: dtype {dtype!r} is not supported")
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        raise ValueError(f"{name}: its shape or its place is not valid")
    entry = TensorEntry(name, dtype, tuple(shape), offsets[0])
    if offsets[1] - offsets[0] != entry.size:
        raise ValueError(f"{name}: its shape and its place differ in size")
    return entry


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)
