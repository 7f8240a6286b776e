"""A damaged, cut or foreign `data.mdb` is an error in one line, where lmdb itself would end the process."""

import os
import random
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from diffussm.data.sources.base import Broken
from diffussm.data.sources.detect import open_source
from diffussm.errors import UserError
from tests.support.sources import open_lmdb, write_lsun

PAGE, COUNT = 4096, 150


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file of two levels, with values in its leaves and in pages of their own."""
    generator = random.Random(0)
    keys = (generator.randbytes(20).hex().encode() for _ in range(COUNT))
    values = {key: generator.randbytes(generator.choice([700, 900, 9000])) for key in keys}
    return (write_lsun(tmp_path_factory.mktemp("sound"), values) / "data.mdb").read_bytes()


def outcomes(folder: Path, contents: Iterable[bytes]) -> Counter[str]:
    """Return what listing and reading each of the files comes to, in a process of its own, which a signal would end."""
    child = os.fork()
    if not child:
        try:
            found = [outcome(folder, content) for content in contents]
            (folder / "found").write_text("\n".join(found))
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    return Counter((folder / "found").read_text().splitlines())


def outcome(folder: Path, content: bytes) -> str:
    (folder / "data.mdb").write_bytes(content)
    try:
        source = open_source(folder)
        read = [source.read(entry) for entry in source.listed().entries]
    except UserError as error:
        in_a_line = "\n" not in str(error) and str(folder / "data.mdb") in str(error)
        return "an error in one line" if in_a_line else f"{error!r}"
    except Broken:
        return "an image is broken"
    except Exception as error:
        return f"{error!r}"
    return "read" if len(read) == COUNT else f"{len(read)} images"


def cuts(content: bytes) -> Iterator[bytes]:
    places = [
        0,
        1,
        15,
        16,
        100,
        151,
        PAGE,
        PAGE + 100,
        PAGE + 151,
        2 * PAGE,
        2 * PAGE + 1,
        50 * PAGE,
        len(content) // 2,
    ]
    yield from (content[:place] for place in [*places, len(content) - PAGE, len(content) - 1])


def wrong_pages(content: bytes, generator: random.Random, number: int) -> bytes:
    """With garbage or zeros for some pages, or for bytes of their headers and nodes."""
    changed = bytearray(content)
    for _ in range(number):
        start = PAGE * generator.randrange(2, len(content) // PAGE)
        match generator.randrange(3):
            case 0:
                changed[start : start + PAGE] = generator.randbytes(PAGE)
            case 1:
                changed[start : start + PAGE] = bytes(PAGE)
            case _:
                for _ in range(8):
                    changed[start + generator.randrange(200)] = generator.randrange(256)
    return bytes(changed)


def test_the_sound_file_is_read(tmp_path: Path, content: bytes) -> None:
    assert outcomes(tmp_path, [content]) == {"read": 1}


def test_a_file_that_was_cut(tmp_path: Path, content: bytes) -> None:
    assert outcomes(tmp_path, cuts(content)).keys() == {"an error in one line"}


def test_garbage(tmp_path: Path, content: bytes) -> None:
    generator = random.Random(1)
    head = content[: 2 * PAGE]
    files = [generator.randbytes(size) for size in (10, 200, 3 * PAGE)]
    files += [
        bytes(9 * PAGE),
        b"PK\3\4" + bytes(9 * PAGE),
        head + generator.randbytes(200 * PAGE),
        head + bytes(200 * PAGE),
    ]
    assert outcomes(tmp_path, files).keys() == {"an error in one line"}


def test_wrong_pages(tmp_path: Path, content: bytes) -> None:
    """Most damage is found when it is listed; that inside a value, by whoever decodes it."""
    generator = random.Random(2)
    found = outcomes(tmp_path, (wrong_pages(content, generator, number) for number in [1, 3, 40] * 20))
    assert found.keys() <= {"an error in one line", "an image is broken", "read"}
    assert found["an error in one line"] >= 30


def wrong_descriptions(content: bytes, generator: random.Random) -> bytes:
    changed = bytearray(content)
    for start in (0, PAGE):
        changed[start + generator.randrange(10, 152)] = generator.randrange(256)
    return bytes(changed)


def test_wrong_descriptions(tmp_path: Path, content: bytes) -> None:
    generator = random.Random(3)
    found = outcomes(tmp_path, (wrong_descriptions(content, generator) for _ in range(60)))
    assert found.keys() == {"an error in one line", "read"}


@pytest.mark.parametrize(
    ("place", "number", "message"),
    [
        (16, 0xDEC0EFBE, "it does not begin as one"),  # of the other byte order
        (20, 3, "it has format 3, expected 1"),  # LMDB 1.0
        (40, 4095, "it has pages of 4095 bytes"),
        (94, 0, "its tree is 0 levels deep"),
    ],
)
def test_what_the_message_says(tmp_path: Path, content: bytes, place: int, number: int, message: str) -> None:
    changed = bytearray(content)
    for start in (0, PAGE):
        struct.pack_into("<I" if place != 94 else "<H", changed, start + place, number)
    (tmp_path / "data.mdb").write_bytes(changed)
    with pytest.raises(UserError, match=f"data.mdb: is damaged, incomplete or not an LMDB \\({message}"):
        open_source(tmp_path).listed()


def test_an_lmdb_of_something_else(tmp_path: Path) -> None:
    with open_lmdb(tmp_path / "several", max_dbs=2) as environment:
        environment.open_db(b"one")
    with pytest.raises(UserError, match="it holds several databases"):
        open_source(tmp_path / "several").listed()
    open_lmdb(tmp_path / "empty").close()
    with pytest.raises(UserError, match=r"empty/data\.mdb: holds no images"):
        open_source(tmp_path / "empty").listed()
    (tmp_path / "folder" / "data.mdb").mkdir(parents=True)
    with pytest.raises(UserError, match=r"data\.mdb: "):
        open_source(tmp_path / "folder").listed()
