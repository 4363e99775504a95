"""What a TIFF says about its pages, read here because Pillow does not use it for deep gray, and because a directory may
say that it is larger than any file: Pillow keeps all that one points to.

TIFF 6.0, https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf; BigTIFF,
https://www.awaresystems.be/imaging/tiff/bigtiff.html
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass

from engine.media.colour import DeepRange

SUBFILE, BITS, PHOTOMETRIC, SAMPLE_FORMAT = 254, 258, 262, 339
REDUCED_OR_MASK = 1 | 4
"""Bits of SUBFILE: a small copy of another page, or what of it is transparent."""

WHITE_IS_ZERO, BLACK_IS_ZERO = 0, 1
UNSIGNED = 1
LONG = 4

MAX_PAGES = 10_000
MAX_ENTRIES = 4096
"""Of one directory, as libtiff has it."""

MAX_ALL_ENTRIES = 2**18
"""Of all directories."""

MAX_NUMBERS = 2**18
"""Of one entry, such as the places of a page's strips: Pillow makes an object of each, but not of raw bytes."""

KIND_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Of one number of each kind of entry; Pillow leaves out those of other kinds."""

RAW_KINDS = (1, 2, 7)


@dataclass(frozen=True, slots=True)
class Directory:
    """What is said of one page. at: where it lies in the file. values: of tags that are short numbers, and places where
    these stand. next_at: where it says which directory follows."""

    at: int
    num_entries: int
    values: dict[int, int]
    places: dict[int, int]
    next_at: int


class TiffFile:
    """The directories of a file. Raises struct.error where it is too short, and ValueError where one of them is more
    than can be (MAX_ENTRIES, MAX_NUMBERS), or points to more than twice the bytes that there are."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.order = ">" if data[:1] == b"M" else "<"
        self._is_big = struct.unpack_from(f"{self.order}H", data, 2)[0] == 43
        self._offset, self._first_at = ("Q", 8) if self._is_big else ("I", 4)

    @property
    def first(self) -> Directory:
        return self._directory(self._read(self._offset, self._first_at))

    def pages(self) -> list[Directory]:
        """In their order; without small copies of other pages and masks, unless there is nothing else. A damaged end is
        left out. Raises ValueError for more than can be read in a moment."""
        page = self.first
        directories = {page.at: page}
        num_entries = page.num_entries
        while following := self._after(page, directories):
            page = directories[following.at] = following
            num_entries += page.num_entries
            if len(directories) > MAX_PAGES or num_entries > MAX_ALL_ENTRIES:
                raise ValueError("too many directories")
        pages = [page for page in directories.values() if not page.values.get(SUBFILE, 0) & REDUCED_OR_MASK]
        return pages or [self.first]

    def _after(self, page: Directory, known: Collection[int]) -> Directory | None:
        """The directory that a page says is next; None where there is none, or a damaged or known one."""
        with suppress(struct.error, ValueError):
            at = self._read(self._offset, page.next_at)
            return self._directory(at) if at and at not in known else None
        return None

    def alone(self, page: Directory) -> bytes:
        """A file of this page only."""
        patches = {self._first_at: struct.pack(f"{self.order}{self._offset}", page.at)}
        if page.next_at + len(patches[self._first_at]) <= len(self._data):  # the file may end there
            patches[page.next_at] = bytes(len(patches[self._first_at]))
        return patched(self._data, patches)

    def _read(self, kind: str, at: int) -> int:
        if at > len(self._data):  # which may be more than Python takes for a place
            raise struct.error("a place behind the end")
        return int(struct.unpack_from(f"{self.order}{kind}", self._data, at)[0])

    def _directory(self, at: int) -> Directory:
        count = self._read("Q" if self._is_big else "H", at)
        if count > MAX_ENTRIES:
            raise ValueError("too many entries")
        first, step = (at + 8, 20) if self._is_big else (at + 2, 12)
        values, places, num_bytes = {}, {}, 0
        for entry in range(first, min(first + count * step, len(self._data) - step + 1), step):
            # Behind tag, type and count stands a value if it is short enough; of these tags it is, with one channel.
            tag, kind = (self._read("H", entry + k) for k in (0, 2))
            places[tag] = entry + step - (8 if self._is_big else 4)
            values[tag] = self._read("I" if kind == LONG else "H", places[tag])
            num_bytes += self._bytes_behind(entry, kind, places[tag])
        if num_bytes > 2 * len(self._data):
            raise ValueError("entries that point to more than there is")
        return Directory(at, count, values, places, first + count * step)

    def _bytes_behind(self, entry: int, kind: int, place: int) -> int:
        """How many bytes of the file an entry points to."""
        count = self._read(self._offset, entry + 4)
        if count > MAX_NUMBERS and kind not in RAW_KINDS and kind in KIND_BYTES:
            raise ValueError("too many numbers")
        num_bytes = count * KIND_BYTES.get(kind, 0)
        if num_bytes <= (8 if self._is_big else 4):
            return 0
        return min(num_bytes, max(0, len(self._data) - self._read(self._offset, place)))


def patched(data: bytes, patches: Mapping[int, bytes]) -> bytes:
    """The data with others in these places, copied once. Raises ValueError where two of them meet."""
    whole, pieces, done = memoryview(data), list[bytes | memoryview](), 0
    for at, new in sorted(patches.items()):
        if at < done:
            raise ValueError("a directory inside the header")
        pieces += [whole[done:at], new]
        done = at + len(new)
    return b"".join([*pieces, whole[done:]])


def deep_range(data: bytes) -> tuple[bytes, DeepRange]:
    """How the numbers of more than 8 bits of the first page become gray; and the file as one in which black is zero,
    since Pillow turns those with 8 bits over and no others, and knows few kinds of them. bits 0: numbers without a
    range.

    Raises as TiffFile.
    """
    file = TiffFile(data)
    page = file.first
    bits = page.values.get(BITS, 1)
    if bits <= 8 or page.values.get(PHOTOMETRIC) not in (WHITE_IS_ZERO, BLACK_IS_ZERO):
        return data, DeepRange()
    is_inverted = page.values[PHOTOMETRIC] == WHITE_IS_ZERO
    if is_inverted:
        data = patched(data, {page.places[PHOTOMETRIC]: struct.pack(f"{file.order}H", BLACK_IS_ZERO)})
    return data, DeepRange(bits if page.values.get(SAMPLE_FORMAT, UNSIGNED) == UNSIGNED else 0, is_inverted)
