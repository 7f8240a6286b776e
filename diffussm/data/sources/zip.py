"""A zip of images, read member by member: nothing is extracted, so that no name of a member leads anywhere."""

import contextlib
import itertools
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from diffussm.data.pixels.listing import Listing, is_hidden_folder
from diffussm.data.sources.base import (
    IMAGE_SUFFIXES,
    Broken,
    Entry,
    Found,
    labelled_by_folder,
    outside_folders,
    printable,
)
from diffussm.data.sources.files import reading
from diffussm.errors import UserError

_ENCRYPTED, _UTF8 = 1, 1 << 11  # flags of a member
_MAGIC = b"PK\3\4"
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_LARGE, _RATIO = 1 << 28, 100  # bytes to which no sound image is compressed at this ratio


@dataclass(frozen=True)
class ZipOfImages:
    """The images of a zip, or other files by `suffixes`, as if it were unpacked to a folder; a folder that holds all
    others is left out of names."""

    path: Path
    suffixes: tuple[str, ...] = IMAGE_SUFFIXES
    kind: ClassVar[str] = "zip"
    shape: ClassVar[None] = None

    def listed(self) -> Found:
        with reading(self.path, "a zip"), self.path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
        listing, chosen = Listing(self.suffixes), []
        for info in members:
            *folders, name = _parts(info)
            if listing.takes(name, any(map(is_hidden_folder, folders))):
                self._check(info, "/".join([*folders, name]))
                chosen.append(([*folders, name], info))
                listing.found.append((name, info.file_size))
        if not chosen:
            raise UserError(f"{self.path}: holds no images ({' '.join(self.suffixes)}); {listing}")
        while len({parts[0] for parts, _ in chosen}) == 1 and min(len(parts) for parts, _ in chosen) > 1:
            chosen = [(parts[1:], info) for parts, info in chosen]
        entries = [
            Entry("/".join(parts), i.file_size, None, (i.CRC, i.header_offset, i.compress_size, i.compress_type))
            for parts, i in chosen
        ]
        entries.sort(key=lambda entry: entry.name)
        for first, second in itertools.pairwise(entries):
            if first.name == second.name:
                raise UserError(f"{self.path}: has two members of the name {printable(first.name)}")
        entries, classes = labelled_by_folder(entries)
        return Found(entries, classes, listing.counts, unlabelled=outside_folders(entries))

    def read(self, entry: Entry) -> bytes:
        crc, offset, compressed, method = entry.place
        with self.path.open("rb") as file:
            file.seek(offset)
            header = file.read(_LOCAL_HEADER.size)
            if len(header) < _LOCAL_HEADER.size or header[:4] != _MAGIC:
                raise Broken("is damaged", "no member of the zip begins where its directory says")
            *_, name_length, extra_length = _LOCAL_HEADER.unpack(header)
            file.seek(name_length + extra_length, 1)
            content = file.read(compressed)
        if method == zipfile.ZIP_DEFLATED:
            try:
                content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, entry.size + 1)
            except zlib.error:
                raise Broken("is damaged", "it cannot be decompressed") from None
        if len(content) != entry.size or zlib.crc32(content) != crc:
            raise Broken("is damaged", "its length or CRC is not as the zip says")
        return content

    def naming(self, entry: Entry) -> str:
        return f"{self.path}: {printable(entry.name)}"

    def _check(self, info: zipfile.ZipInfo, name: str) -> None:
        what = f"{self.path}: {printable(name)}"
        if info.flag_bits & _ENCRYPTED:
            raise UserError(f"{what}: is encrypted; unpack the zip with its password, and prepare the folder")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UserError(f"{what}: is compressed in a way that is not read; allowed: stored, deflated")
        if info.file_size > max(_LARGE, _RATIO * info.compress_size):
            raise UserError(f"{what}: would expand from {info.compress_size:,} to {info.file_size:,} bytes: a zip bomb")


def _parts(info: zipfile.ZipInfo) -> list[str]:
    """Return the folders of a member and its name."""
    name = info.orig_filename
    if not info.flag_bits & _UTF8:
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode()  # what macOS writes, without the flag
    return [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")] or [""]
