"""WebDataset's tars: members `<key>.<suffix>` with one key are a sample: an image, and its class in `<key>.cls`."""

import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from diffussm.data.pixels.listing import Listing
from diffussm.data.sources.base import IMAGE_SUFFIXES, MAX_CLASSES, Broken, Entry, Found, printable
from diffussm.data.sources.files import modified, reading
from diffussm.errors import UserError

_LONGEST = 16  # bytes of a .cls


@dataclass(frozen=True)
class WebDataset:
    """The images of a .tar, or of the .tar files of a folder in the order of their names, in the order of the tars."""

    path: Path
    kind: ClassVar[str] = "webdataset"
    shape: ClassVar[None] = None

    def listed(self) -> Found:
        listing, entries, labels = Listing(IMAGE_SUFFIXES), list[Entry](), dict[str, int]()
        for number, tar in enumerate(_tars(self.path)):
            with reading(tar, "an uncompressed .tar"), tarfile.open(tar, "r:") as archive:
                for member in archive:
                    name = f"{tar.name}/{member.name}"
                    if member.isfile() and name.endswith(".cls"):
                        labels[_key(name)] = _label(archive, member, f"{tar}: {printable(member.name)}")
                    elif member.isfile() and listing.takes(name.rpartition("/")[2]):
                        listing.found.append((name, member.size))
                        entries.append(Entry(name, member.size, None, (number, member.offset_data)))
        if not entries:
            raise UserError(f"{self.path}: holds no images ({' '.join(IMAGE_SUFFIXES)}); {listing}")
        if not labels:
            return Found(entries, (), listing.counts, modified(_tars(self.path)))
        if missing := [entry.name for entry in entries if _key(entry.name) not in labels]:
            raise UserError(f"{self.path}: {printable(missing[0])}: has no .cls beside it, though other images have")
        entries = [entry._replace(label=labels[_key(entry.name)]) for entry in entries]
        return Found(
            entries, tuple(map(str, range(max(labels.values()) + 1))), listing.counts, modified(_tars(self.path))
        )

    def read(self, entry: Entry) -> bytes:
        number, offset = entry.place
        with _tars(self.path)[number].open("rb") as file:
            file.seek(offset)
            content = file.read(entry.size)
        if len(content) != entry.size:
            raise Broken("is damaged", "the tar is cut short")
        return content

    def naming(self, entry: Entry) -> str:
        return f"{self.path}: {printable(entry.name)}"


def is_webdataset(folder: Path) -> bool:
    """Return whether a folder holds tars, and no other files but hidden ones."""
    files = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return bool(files) and all(path.suffix == ".tar" for path in files)


def _tars(path: Path) -> list[Path]:
    return sorted(path.glob("[!.]*.tar")) if path.is_dir() else [path]


def _key(name: str) -> str:
    """Return the name without all that follows the first dot of its last part."""
    folder, _, last = name.rpartition("/")
    return f"{folder}/{last.partition('.')[0]}"


def _label(archive: tarfile.TarFile, member: tarfile.TarInfo, what: str) -> int:
    file = archive.extractfile(member)
    text = file.read(_LONGEST + 1) if file is not None else b""
    if not text.strip().isdigit() or len(text) > _LONGEST or int(text) >= MAX_CLASSES:
        raise UserError(f"{what}: is no class; allowed: a number from 0 to {MAX_CLASSES - 1}")
    return int(text)
