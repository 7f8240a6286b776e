"""Files of weights and of training states: written with a stamp and a digest, and verified while they are read."""

import json
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffussm.store.integrity import safetensors_header, zip_comment
from diffussm.store.integrity.digest import place_of_digest
from diffussm.store.integrity.files import Origin, read_file, verify_file
from diffussm.store.integrity.hashed_file import HashedFile
from diffussm.store.integrity.safetensors_header import LENGTH_BYTES, METADATA, TensorEntry
from diffussm.store.integrity.stamp import DamagedFile, Stamp
from diffussm.store.writing import written_atomically

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}
NOT_VERIFIABLE = "was written by an earlier version, without a digest: its content cannot be verified"


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
    entries = safetensors_header.layout((name, NAMES[t.dtype], tuple(t.shape)) for name, t in weights.items())
    header = safetensors_header.to_bytes(entries, {"format": "pt", **(metadata or {}), **stamp.metadata()})
    with written_atomically(path) as file:
        hashed = HashedFile(file)
        hashed.write(header)
        for entry in entries:
            if entry.size:
                tensor = weights[entry.name].detach().cpu().contiguous()
                hashed.write(tensor.reshape(-1).view(torch.uint8).numpy().data)
        return hashed.seal(place_of_digest(header))


def read_weights(path: Path) -> StoredWeights:
    """Return the weights in a safetensors file, of this or another program.

    Raises FileNotFoundError if there is no file, and DamagedFile if it is damaged.
    """
    content = read_file(path)
    try:
        tensors = _tensors(content.bytes)  # while the digest is computed
    except (ValueError, RuntimeError) as error:
        content.verified()
        raise DamagedFile(path, str(error)) from error
    return StoredWeights(tensors, content.verified())


def read_weights_of(path: Path, run_id: str, step: int, kind: str) -> StoredWeights:
    """Return the weights (ema | raw) of that run and step. Raises as `read_weights`, and DamagedFile for other ones."""
    weights = read_weights(path)
    if weights.origin.stamp:
        weights.origin.stamp.check_place(path, run_id, step, kind)
    return weights


def write_state(path: Path, state: Mapping[str, Any], stamp: Stamp) -> None:
    """Write a training state, nested dictionaries, as `torch.save` does, with the stamp, atomically. Tensors on the CPU
    are not copied."""
    comment = json.dumps({METADATA: stamp.metadata()}).encode()
    with written_atomically(path) as file:
        hashed: Any = HashedFile(file)
        torch.save(_on_cpu(state), hashed)  # of others it would make copies that are gone before they are hashed
        hashed.change_end(lambda end: zip_comment.with_comment(end, comment))
        hashed.seal()


def read_state(
    path: Path, globals_allowed: Callable[[], AbstractContextManager[object]] = nullcontext
) -> tuple[Any, Origin]:
    """Return what `torch.save` wrote to the file: tensors and plain values. Raises as `read_weights`.

    The tensors are of the file, mapped: processes of a machine share what they read of it. `globals_allowed` makes the
    context in which other objects are read.
    """
    origin = verify_file(path)
    try:
        with globals_allowed(), path.open("rb") as file:
            # Of a file without a digest, which is not mapped, torch checks the archive's own sums.
            source: Any = str(path) if origin.stamp else file
            content = torch.load(source, map_location="cpu", weights_only=True, mmap=origin.stamp is not None)
    except OSError:
        raise
    except Exception as error:  # an unpickler raises anything on damage
        reason = str(error) if isinstance(error, ValueError) else f"torch.load cannot read it ({type(error).__name__})"
        raise DamagedFile(path, reason) from error
    return content, origin


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


def _on_cpu(state: Any) -> Any:
    if isinstance(state, Mapping):
        return {name: _on_cpu(value) for name, value in state.items()}
    return state.cpu() if isinstance(state, Tensor) else state
