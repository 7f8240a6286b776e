"""Files of weights and of training states: written with a stamp and a digest, and verified while they are read."""

import io
import json
import mmap
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from diffussm.store.integrity import safetensors_header, zip_comment
from diffussm.store.integrity.digest import DIGITS, BackgroundHash, place_of_digest
from diffussm.store.integrity.files import FileContent, Origin, read_file
from diffussm.store.integrity.safetensors_header import LENGTH_BYTES, METADATA, TensorEntry
from diffussm.store.integrity.stamp import DamagedFile, Stamp
from diffussm.store.writing import write_atomically

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}
HASHED_AT_ONCE = 1 << 20
HELD_BACK = 1 << 10  # bytes at an archive's end, more than the record that ends it
NOT_VERIFIABLE = "was written by an earlier version, without a digest: its content cannot be verified"

Parsed = TypeVar("Parsed")


class StoredWeights(NamedTuple):
    """Weights by name, and what their file says about itself."""

    tensors: dict[str, Tensor]
    origin: Origin


class Source(NamedTuple):
    """The file of another program that a model's weights were read from."""

    file: str
    sha256: str


def announced_source(path: Path, origin: Origin) -> Source:
    """Return the file as a source, after printing its SHA-256 on stderr: it cannot be verified."""
    print(f"{path}: sha256 {origin.sha256}", file=sys.stderr, flush=True)
    return Source(str(path), origin.sha256)


def write_weights(
    path: Path, weights: Mapping[str, Tensor], stamp: Stamp, metadata: Mapping[str, str] | None = None
) -> str:
    """Write a safetensors file with the stamp and other metadata, atomically; return the digest that it states."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    entries = safetensors_header.layout((name, NAMES[t.dtype], tuple(t.shape)) for name, t in tensors.items())
    header = safetensors_header.to_bytes(entries, {"format": "pt", **(metadata or {}), **stamp.metadata()})
    content = _memory(len(header) + sum(entry.size for entry in entries))
    content[: len(header)] = header
    digest = BackgroundHash()
    digest.update(header)
    for entry in entries:
        if entry.size:
            piece = content[len(header) + entry.start :][: entry.size]
            piece[:] = tensors[entry.name].reshape(-1).view(torch.uint8).numpy().data
            digest.update(piece)
    place = place_of_digest(header)
    assert place is not None
    digits = digest.hexdigest()
    content[place : place + DIGITS] = digits.encode()
    write_atomically(path, content)
    return digits


def read_weights(path: Path) -> StoredWeights:
    """Return the weights in a safetensors file, of this or another program.

    Raises FileNotFoundError if there is no file, and DamagedFile if it is damaged.
    """
    content = read_file(path)
    return StoredWeights(*_verified(content, lambda: _tensors(content.bytes)))


def read_weights_of(path: Path, run_id: str, step: int, kind: str) -> StoredWeights:
    """Return the weights (ema | raw) of that run and step. Raises as `read_weights`, and DamagedFile for other ones."""
    weights = read_weights(path)
    if weights.origin.stamp:
        weights.origin.stamp.check_place(path, run_id, step, kind)
    return weights


def write_state(path: Path, state: Mapping[str, Any], stamp: Stamp) -> None:
    """Write a training state as `torch.save` does, with the stamp, atomically."""
    archive: Any = _HashedArchive(_memory_needed(state))
    torch.save(state, archive)
    write_atomically(path, archive.stamped(stamp))


def read_state(
    path: Path, globals_allowed: Callable[[], AbstractContextManager[object]] = nullcontext
) -> tuple[Any, Origin]:
    """Return what `torch.save` wrote to the file: tensors and plain values. Raises as `read_weights`.

    `globals_allowed` makes the context in which other objects are read.
    """
    content = read_file(path)

    def parse() -> Any:
        # From memory that has a path, tensors are not copied; without a digest, torch checks the archive's own sums.
        mapped = content.memory_path if content.stamp else ""
        source: Any = mapped or _Reader(content.bytes)
        with globals_allowed():
            return torch.load(source, map_location="cpu", weights_only=True, mmap=bool(mapped))

    return _verified(content, parse)


def _verified(content: FileContent, parse: Callable[[], Parsed]) -> tuple[Parsed, Origin]:
    """Return what `parse` makes of the content while its digest is computed, and where it comes from."""
    try:
        parsed = parse()
    except Exception as error:  # an unpickler raises anything on damage
        content.verified()
        has_reason = isinstance(error, ValueError)
        reason = str(error) if has_reason else f"torch.load cannot read it ({type(error).__name__})"
        raise DamagedFile(content.path, reason) from error
    return parsed, content.verified()


def _tensors(content: memoryview) -> dict[str, Tensor]:
    length = int.from_bytes(content[:LENGTH_BYTES], "little")
    data = LENGTH_BYTES + length
    if not 2 <= length <= len(content) - LENGTH_BYTES:
        raise ValueError("it is cut off, or not a safetensors file")
    _, entries = safetensors_header.parse(bytes(content[LENGTH_BYTES:data]), len(content) - data)
    return {entry.name: _tensor(content, data + entry.start, entry) for entry in entries}


def _tensor(content: memoryview, start: int, entry: TensorEntry) -> Tensor:
    if entry.dtype not in DTYPES:
        raise ValueError(f"{entry.name}: dtype {entry.dtype} is not supported")
    dtype = DTYPES[entry.dtype]
    if not entry.size:
        return torch.empty(entry.shape, dtype=dtype)
    bytes_of_tensor = content[start : start + entry.size]
    is_aligned = start % dtype.itemsize == 0
    return torch.frombuffer(bytes_of_tensor if is_aligned else bytearray(bytes_of_tensor), dtype=dtype).reshape(
        entry.shape
    )


class _HashedArchive(io.RawIOBase):
    """What `torch.save` writes, in memory and hashed beside its writing, but for the end, which the stamp changes."""

    def __init__(self, size: int):
        super().__init__()
        self._memory, self._digest = _memory(size), BackgroundHash()
        self._written = self._hashed = 0

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        start, self._written = self._written, self._written + len(piece)
        if self._written > len(self._memory):
            larger = _memory(2 * self._written)
            larger[:start] = self._memory[:start]
            self._memory = larger
        self._memory[start : self._written] = piece
        if (end := self._written - HELD_BACK) > self._hashed + HASHED_AT_ONCE:
            self._digest.update(self._memory[self._hashed : end])
            self._hashed = end
        return len(piece)

    def stamped(self, stamp: Stamp) -> memoryview:
        """Return the archive with the stamp as its comment."""
        comment = json.dumps({METADATA: stamp.metadata()}).encode()
        end = zip_comment.with_comment(bytes(self._memory[self._hashed : self._written]), comment)
        self._written = self._hashed
        self.write(end)
        self._digest.update(end)
        place = place_of_digest(end)
        assert place is not None
        self._memory[self._hashed + place :][:DIGITS] = self._digest.hexdigest().encode()
        return self._memory[: self._written]


def _memory(size: int) -> memoryview:
    """Return memory that is taken only as it is written."""
    return memoryview(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


def _memory_needed(state: Any) -> int:
    """Return about how many bytes `torch.save` writes; pages of memory that it does not write cost nothing."""
    if isinstance(state, Tensor):
        return state.untyped_storage().nbytes() + 1024
    if isinstance(state, Mapping):
        return 4096 + sum(_memory_needed(value) for value in state.values())
    return 4096


class _Reader(io.RawIOBase):
    """A file in memory, which is not copied."""

    def __init__(self, content: memoryview):
        super().__init__()
        self._content, self._place = content, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: len(self._content)}[whence]
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        piece = self._content[self._place : self._place + len(buffer)]
        buffer[: len(piece)] = piece
        self._place += len(piece)
        return len(piece)
