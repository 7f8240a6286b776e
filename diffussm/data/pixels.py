"""Sets of uint8 images that need not fit memory, read in pieces: arrays, ADM's .npz files, folders of PNG.

ADM's format (guided-diffusion, `evaluations/`): `arr_0`, uint8 (N, H, W, C), in a zip of .npy files; labels in `arr_1`,
statistics beside them. Nothing here unpickles. Photographs, which are brought to one size, are in `folder`.
"""

import errno
import functools
import hashlib
import io
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from diffussm.errors import UserError
from diffussm.store.hashes import file_sha256

Shape = tuple[int, int, int]  # (C, H, W)
Source = TypeVar("Source")

_BLOCK = 1 << 20  # bytes read at once
_HEADER_LIMIT = 10_000  # bytes of an .npy header
_BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, OverflowError)
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class Pixels(Protocol):
    """A set of images in order, read in pieces."""

    count: int
    shape: Shape  # of every image

    def batches(self, size: int, start: int = 0, stop: int | None = None) -> Iterator[NDArray[np.uint8]]:
        """Images start .. stop - 1 in order, (<= size, C, H, W) each; UserError naming a file that cannot be read."""

    @property
    def sha256(self) -> str:
        """Of the file's bytes (.npz), else of all pixels (N, C, H, W) in order."""


class ArrayPixels:
    """An array (N, C, H, W) in memory."""

    def __init__(self, array: NDArray[np.uint8]):
        if array.dtype != np.uint8 or array.ndim != 4:
            raise ValueError(f"{array.dtype} {array.shape}: needed is uint8 (N, C, H, W)")
        self.array = array
        self.count = len(array)
        self.shape: Shape = array.shape[1:]

    def batches(self, size: int, start: int = 0, stop: int | None = None) -> Iterator[NDArray[np.uint8]]:
        for first, last in spans(self.count, size, start, stop):
            yield self.array[first:last]

    @functools.cached_property
    def sha256(self) -> str:
        return pixels_sha256(self)


class NpzPixels:
    """`arr_0` of an .npz: uint8 (N, H, W, C) with C 1 or 3, in C order, stored or deflated; given as (N, C, H, W).

    UserError in one line that names the file: absent, damaged, or anything else than that. A stored member is read from
    `start` on, a deflated one from its beginning. The zip's CRC is checked in a stored one by whoever reads it from its
    first image to its last, in a deflated one by whoever reads its last.
    """

    def __init__(self, path: Path):
        self.path = path
        with _opened(path) as file:
            self._version = _version(os.fstat(file.fileno()))
            self._images = self._find(file)
        self.count, height, width, channels = self._images.header.shape
        self.shape: Shape = (channels, height, width)

    def batches(self, size: int, start: int = 0, stop: int | None = None) -> Iterator[NDArray[np.uint8]]:
        channels, height, width = self.shape
        wanted = spans(self.count, size, start, stop)
        with _opened(self.path) as file:
            self._check_version(os.fstat(file.fileno()))
            if self._find(file) != self._images:
                raise self._changed()
            with self._content(file, start * math.prod(self.shape)) as content:
                for first, last in wanted:
                    images = np.empty((last - first, height, width, channels), dtype=np.uint8)
                    _fill(images.data.cast("B"), content)
                    if last == self.count and isinstance(content, zipfile.ZipExtFile):
                        content.read(1)  # at the end of a member zipfile compares the CRC
                    yield np.ascontiguousarray(images.transpose(0, 3, 1, 2))  # (n, C, H, W)

    @property
    def sha256(self) -> str:
        found = file_sha256(self.path)
        self._check_version(self.path.stat())
        return found

    def _check_version(self, found: os.stat_result) -> None:
        if _version(found) != self._version:
            raise self._changed()

    def _changed(self) -> UserError:
        return UserError(f"{self.path}: has been replaced or changed since it was opened")

    def _find(self, file: IO[bytes]) -> "_Images":
        with zipfile.ZipFile(file) as archive:
            if "arr_0.npy" not in archive.namelist():
                raise UserError(f"{self.path}: holds no arr_0, where the images are looked for; {_listed(archive)}")
            info = archive.getinfo("arr_0.npy")
            header = _read_header(archive, info, f"{self.path}: arr_0")
        _check_images(header, f"{self.path}: arr_0")
        return _Images(header, info.header_offset, info.compress_type == zipfile.ZIP_STORED, info.CRC)

    @contextmanager
    def _content(self, file: IO[bytes], offset: int) -> Iterator[IO[bytes]]:
        """The array's bytes from `offset` on."""
        header, place, stored, _ = self._images
        if stored and offset:
            file.seek(place + 26)  # of the local header: length of the name, of what is extra
            file.seek(sum(struct.unpack("<HH", file.read(4))) + header.size + offset, os.SEEK_CUR)
            yield file
        else:
            with zipfile.ZipFile(file) as archive, archive.open("arr_0.npy") as member:
                left = header.size + offset
                while left:
                    left -= len(_some(member, min(left, _BLOCK)))
                yield member


class FolderPixels:
    """The PNG files of a folder, not of its subfolders, as whole numbers in names count: 2.png before 10.png.

    Grey gives one channel, RGB and palettes three; all must be of the first one's shape. UserError naming the file: it
    is damaged, 16 bits deep, not opaque or of another shape; or the folder: absent, without PNG, or with JPEG.
    """

    def __init__(self, path: Path):
        if not path.is_dir():
            raise UserError(f"{path}: no such folder")
        names = sorted((name for name in os.listdir(path) if not name.startswith(".")), key=_natural)
        if any(name.lower().endswith((".jpg", ".jpeg")) for name in names):
            raise UserError(f"{path}: holds JPEG files; samples never pass through JPEG, save them as PNG or .npz")
        self.files = [path / name for name in names if name.lower().endswith(".png")]
        if not self.files:
            raise UserError(f"{path}: holds no PNG files (subfolders are not searched)")
        self.count = len(self.files)
        self.shape: Shape = _png(self.files[0]).shape

    def batches(self, size: int, start: int = 0, stop: int | None = None) -> Iterator[NDArray[np.uint8]]:
        yield from decoded(self.files, self._image, spans(self.count, size, start, stop))

    @functools.cached_property
    def sha256(self) -> str:
        return pixels_sha256(self)

    def _image(self, file: Path) -> NDArray[np.uint8]:
        image = _png(file)
        if image.shape != self.shape:
            first = self.files[0].name
            raise UserError(f"{file}: is {image.shape}, {first} {self.shape} (C, H, W); all must be the same")
        return image


def open_pixels(path: Path) -> Pixels:
    """A folder of PNG files, or else an .npz; UserError if it is neither."""
    return FolderPixels(path) if path.is_dir() else NpzPixels(path)


def write_npz(
    path: Path, shape: Shape, count: int, batches: Iterable[NDArray[np.uint8]], /, **arrays: ArrayLike
) -> None:
    """`count` images of `shape`, from batches (n, C, H, W), as ADM's .npz, `arrays` beside them: whole or absent.

    Equal content gives equal bytes. Without images (count 0) there is no `arr_0`. ValueError for another number of
    images, another shape or type, an array of objects.
    """
    if "arr_0" in arrays:
        raise ValueError("arr_0 is where the images are")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    try:
        with temporary.open("xb") as file:
            with zipfile.ZipFile(file, "w") as archive:
                _write_images(archive, shape, count, batches)
                for name in sorted(arrays):
                    with _new_member(archive, name) as member:
                        np.lib.format.write_array(member, np.asarray(arrays[name], order="C"), allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_arrays(path: Path, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Those of the small arrays `names` that an .npz has; UserError naming file and array.

    It tells of damage, Python objects, numbers that are not finite.
    """
    with _opened(path) as file, zipfile.ZipFile(file) as archive:
        there = set(archive.namelist())
        return {name: _array(archive, name, f"{path}: {name}") for name in names if f"{name}.npy" in there}


def pixels_sha256(pixels: Pixels) -> str:
    """Of all pixels (N, C, H, W) in order."""
    digest = hashlib.sha256()
    for batch in pixels.batches(64):
        digest.update(np.ascontiguousarray(batch).data)
    return digest.hexdigest()


def spans(count: int, size: int, start: int, stop: int | None) -> list[tuple[int, int]]:
    """(first, last + 1) of each batch; ValueError for no size, or a start and stop outside 0 .. count."""
    stop = count if stop is None else stop
    if size < 1 or not 0 <= start <= stop <= count:
        raise ValueError(f"batches of {size} from {start} to {stop}: there are {count} images")
    return [(first, min(first + size, stop)) for first in range(start, stop, size)]


def decoded(
    files: Sequence[Source], decode: Callable[[Source], NDArray[np.uint8]], wanted: Iterable[tuple[int, int]]
) -> Iterator[NDArray[np.uint8]]:
    """Batches of `files` first .. last - 1, each decoded by threads: PIL lets go of the interpreter."""
    with ThreadPoolExecutor() as pool:
        for first, last in wanted:
            yield np.stack(list(pool.map(decode, files[first:last])))


def read_image(file: Path, formats: list[str]) -> Image.Image:
    """Loaded from a file in one of PIL's `formats`; UserError naming it: unreadable, damaged or 16 bits deep."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from None
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=formats)
        if png := image.format == "PNG":
            image.verify()  # the CRCs, which decoding leaves alone
            content.index(_PNG_END)
            image = Image.open(io.BytesIO(content), formats=formats)
        image.load()
    except Exception:  # what PIL raises of a spoiled file is anything
        raise UserError(f"{file}: is damaged or not {', '.join(formats)}") from None
    if png and content[24] == 16:  # in IHDR; PIL clips such grey and drops the lower bits of such colours
        raise UserError(f"{file}: has 16 bits a channel; allowed: 8")
    return image


class _Header(NamedTuple):
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    size: int  # bytes before the array's own


class _Images(NamedTuple):
    header: _Header
    place: int  # of the member in the file
    stored: bool
    crc: int


@contextmanager
def _told(what: str) -> Iterator[None]:
    """What can go wrong with a file, as a line that begins with `what`."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{what}: no such file") from None
    except (*_BROKEN, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # which comes of a place before the file
            raise
        raise UserError(f"{what}: is damaged or no .npz file ({' '.join(str(error).split())})") from None


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with _told(str(path)), path.open("rb") as file:
        yield file


def _listed(archive: zipfile.ZipFile) -> str:
    names = sorted(archive.namelist())
    more = ", ..." if len(names) > 8 else ""
    return f"it holds {', '.join(name.removesuffix('.npy') for name in names[:8]) or 'nothing'}{more}"


def _read_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo, what: str) -> _Header:
    """UserError also for Python objects, and where the member is not as long as its header says."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UserError(f"{what}: is compressed in a way that is not read; allowed: stored, deflated")
    with _told(what), archive.open(info) as member:
        start = io.BytesIO(member.read(_HEADER_LIMIT))
    try:
        read = _HEADERS[np.lib.format.read_magic(start)]
        header = _Header(*read(start, max_header_size=_HEADER_LIMIT), start.tell())
    except Exception:  # what NumPy raises of a spoiled header is anything
        raise UserError(f"{what}: is damaged (its header is none of an array)") from None
    if header.dtype.hasobject:
        raise UserError(
            f"{what}: holds Python objects, which are not loaded from files; allowed: plain numbers or text"
        )
    length = header.size + math.prod(header.shape) * header.dtype.itemsize
    stored = info.compress_type == zipfile.ZIP_STORED
    if min(header.shape, default=0) < 0 or length != info.file_size or (stored and length != info.compress_size):
        raise UserError(f"{what}: is damaged ({info.file_size} bytes, its header says {length})")
    return header


def _check_images(header: _Header, what: str) -> None:
    shape = header.shape
    if header.dtype != np.uint8:
        scale = "; levels in 0 .. 1 must be scaled and rounded first" if header.dtype.kind == "f" else ""
        raise UserError(f"{what}: is {header.dtype}; allowed: uint8, grey levels 0 .. 255{scale}")
    if len(shape) != 4 or shape[3] not in (1, 3):
        raise UserError(f"{what}: has shape {shape}; allowed: (N, H, W, C), with 1 or 3 channels C")
    if header.fortran:
        raise UserError(f"{what}: is in Fortran order; allowed: C order (numpy.ascontiguousarray before it is saved)")
    if 0 in shape:
        raise UserError(f"{what}: holds no images: its shape is {shape}")


def _some(content: IO[bytes], size: int) -> bytes:
    if not (some := content.read(size)):
        raise EOFError("it ends too early")
    return some


def _fill(view: memoryview, content: IO[bytes]) -> None:
    while view:
        some = _some(content, min(len(view), _BLOCK))
        view[: len(some)] = some
        view = view[len(some) :]


def _array(archive: zipfile.ZipFile, name: str, what: str) -> NDArray[Any]:
    info = archive.getinfo(f"{name}.npy")
    header = _read_header(archive, info, what)
    with _told(what), archive.open(info) as member:
        content = member.read()[header.size :]
        order: Any = "F" if header.fortran else "C"
        array = np.ndarray(header.shape, header.dtype, content, order=order).copy()
    if header.dtype.kind in "fc" and not np.isfinite(array).all():
        raise UserError(f"{what}: holds numbers that are not finite")
    return array


def _new_member(archive: zipfile.ZipFile, name: str) -> Any:
    info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
    info.create_system = 3  # the same bytes everywhere
    return archive.open(info, "w", force_zip64=True)


def _write_images(archive: zipfile.ZipFile, shape: Shape, count: int, batches: Iterable[NDArray[np.uint8]]) -> None:
    channels, height, width = shape
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, height, width, channels)}
    missing = count
    with _new_member(archive, "arr_0") if count else io.BytesIO() as member:
        np.lib.format.write_array_header_1_0(member, header)
        for batch in batches:
            if batch.dtype != np.uint8 or batch.shape[1:] != shape:
                raise ValueError(f"a batch is {batch.dtype} {batch.shape}: images are uint8 {shape}")
            missing -= len(batch)
            if missing < 0:
                break
            member.write(np.ascontiguousarray(batch.transpose(0, 2, 3, 1)).data)  # (n, H, W, C)
    if missing:
        raise ValueError(f"{'more' if missing < 0 else f'{count - missing}'} images than the {count} announced")


def _version(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns


def _natural(name: str) -> tuple[Any, ...]:
    parts: list[Any] = re.split("([0-9]+)", name)
    parts[1::2] = map(int, parts[1::2])
    return (parts, name)


def _png(file: Path) -> NDArray[np.uint8]:
    """(C, H, W), C 1 or 3."""
    image = read_image(file, ["PNG"])
    grey = image.mode in ("1", "L", "LA")
    if image.has_transparency_data:
        opaque = image.convert("RGBA")
        if np.asarray(opaque)[..., 3].min() < 255:
            raise UserError(f"{file}: is not opaque everywhere; allowed: no alpha, or 255 in all of it")
        image = opaque
    return np.atleast_3d(np.asarray(image.convert("L" if grey else "RGB"))).transpose(2, 0, 1)
