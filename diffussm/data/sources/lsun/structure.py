"""The keys of an LMDB (`data.mdb`, format 1 of 64-bit machines) and the sizes of their values, read page by page.

lmdb itself trusts a file: a damaged page can end the process, and its cursor reads each value to tell its size. Here
every number is checked before it is followed, and of the values nothing is read. What passes is safe to open with lmdb.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffussm.data.sources.files import opened
from diffussm.errors import UserError

_HEADER = struct.Struct("<QHHHH")  # of a page: its number, padding, flags, end of the places of its nodes, first node
_META = struct.Struct("<II16xI44xIHH32xQQQ")  # magic, version; free pages: page size; keys: see _Meta; transaction
_NODE = 8  # bytes before a key
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_BRANCH, _LEAF, _META_PAGE = 1, 2, 8
_KINDS = 0x6F  # flags that say what a page is
_ELSEWHERE = 1  # flag of a node whose value has pages of its own
_PAGE_SIZES = [2**power for power in range(8, 17)]
_MAX_DEPTH = 32  # lmdb's
_EMPTY = 2**64 - 1


class _Damaged(Exception):
    """The file is not what it should be; the message says in what."""


class _Meta(NamedTuple):
    page_size: int
    flags: int  # of the tree of keys
    depth: int
    root: int
    last_page: int
    transaction: int


def keys_and_sizes(path: Path) -> Iterator[tuple[bytes, int]]:
    """Yield the keys of a `data.mdb` in its order, with the sizes of their values in bytes.

    Raises UserError if it is missing, damaged, cut short, or not an LMDB of single values.
    """
    with opened(path) as (file, size):
        try:
            yield from _pairs(file, size)
        except _Damaged as error:
            raise UserError(f"{path}: is damaged, incomplete or not an LMDB ({error})") from None


def _pairs(file: IO[bytes], size: int) -> Iterator[tuple[bytes, int]]:
    meta = _newest(file)
    if meta.root == _EMPTY:
        return
    if meta.flags:
        raise _Damaged("its keys have several values each, or are numbers")
    if not 1 <= meta.depth <= _MAX_DEPTH:
        raise _Damaged(f"its tree is {meta.depth} levels deep")
    tree = _Tree(file, meta.page_size, min(size // meta.page_size, meta.last_page + 1))
    numbers = [meta.root]
    for _ in range(meta.depth - 1):
        numbers = [child for number in numbers for child in tree.children(number)]
        if len(set(numbers)) != len(numbers):
            raise _Damaged("two branches lead to one page")
    for number in numbers:
        yield from tree.pairs(number)


def _newest(file: IO[bytes]) -> _Meta:
    """Return the later of the two descriptions with which the file begins."""
    first = _meta(file, 0)
    second = _meta(file, first.page_size)
    return second if second.transaction > first.transaction else first


def _meta(file: IO[bytes], offset: int) -> _Meta:
    content = os.pread(file.fileno(), _HEADER.size + _META.size, offset)
    if len(content) < _HEADER.size + _META.size:
        raise _Damaged("it ends before its description")
    flags = _HEADER.unpack_from(content)[2]
    magic, version, page_size, _, *tree = _META.unpack_from(content, _HEADER.size)
    if magic != _MAGIC or not flags & _META_PAGE:
        raise _Damaged("it does not begin as one")
    if version != _VERSION:
        raise _Damaged(f"it has format {version}, expected {_VERSION}")
    if page_size not in _PAGE_SIZES:
        raise _Damaged(f"it has pages of {page_size} bytes")
    return _Meta(page_size, *tree)


class _Tree:
    """The pages of a file, of which there are `count`."""

    def __init__(self, file: IO[bytes], page_size: int, count: int):
        self._file, self._page_size, self._count = file, page_size, count

    def children(self, number: int) -> list[int]:
        """Return the numbers of the pages to which a branch leads."""
        page, nodes = self._nodes(number, _BRANCH, least=2)
        children = _number(page, nodes, 6)
        self._check_pages(children, 1)
        return children.tolist()

    def pairs(self, number: int) -> list[tuple[bytes, int]]:
        """Return the keys of a leaf and the sizes of their values."""
        page, nodes = self._nodes(number, _LEAF, least=1)
        sizes, flags, values = _number(page, nodes, 4), _number(page, nodes + 4, 2), self._after_keys(page, nodes)
        if (flags & ~_ELSEWHERE).any():
            raise _Damaged("it holds several databases, or several values of a key")
        elsewhere = flags == _ELSEWHERE
        if (np.where(elsewhere, values + 8, values + sizes) > self._page_size).any():
            raise _Damaged(f"a value leaves page {number}")
        pages = -(-(sizes[elsewhere] + _HEADER.size) // self._page_size)
        self._check_pages(_number(page, values[elsewhere], 8), pages)
        content = page.tobytes()
        places = zip((nodes + _NODE).tolist(), values.tolist(), sizes.tolist(), strict=True)
        return [(content[start:end], size) for start, end, size in places]

    def _nodes(self, number: int, kind: int, least: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return a page, and where in it its nodes begin."""
        self._check_pages(np.array([number]), 1)
        content = os.pread(self._file.fileno(), self._page_size, number * self._page_size)
        stored, _, flags, lower, upper = _HEADER.unpack_from(content)
        page = np.frombuffer(content, dtype=np.uint8)
        if stored != number or flags & _KINDS != kind:
            raise _Damaged(f"page {number} is not what leads to it says")
        count = (lower - _HEADER.size) // 2
        if not (least <= count and lower <= upper <= self._page_size):
            raise _Damaged(f"page {number} has {max(count, 0)} nodes")
        nodes = _number(page, np.arange(_HEADER.size, _HEADER.size + 2 * count, 2), 2)
        if (nodes < upper).any() or (nodes + _NODE > self._page_size).any():
            raise _Damaged(f"a node leaves page {number}")
        if (self._after_keys(page, nodes) > self._page_size).any():
            raise _Damaged(f"a key leaves page {number}")
        return page, nodes

    def _after_keys(self, page: NDArray[np.uint8], nodes: NDArray[np.int64]) -> NDArray[np.int64]:
        return nodes + _NODE + _number(page, nodes + 6, 2)

    def _check_pages(self, first: NDArray[np.int64], pages: Any) -> None:
        """Raise _Damaged unless each run of so many pages is in the file."""
        if ((first < 2) | (first > self._count) | (first + pages > self._count)).any():
            raise _Damaged(f"a page is referred to that its {self._count:,} pages do not include")


def _number(page: NDArray[np.uint8], places: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Return the little-endian whole numbers of so many bytes at these places; those of 2^63 and more are negative."""
    weights = np.left_shift(1, 8 * np.arange(size), dtype=np.int64)
    return page[places[:, None] + np.arange(size)].astype(np.int64) @ weights
