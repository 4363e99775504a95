"""What a TIFF says about its pages, read here because Pillow does not use it for deep gray.

TIFF 6.0, https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf; BigTIFF,
https://www.awaresystems.be/imaging/tiff/bigtiff.html
"""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import dataclass

from engine.media.colour import DeepRange

SUBFILE, BITS, PHOTOMETRIC, SAMPLE_FORMAT = 254, 258, 262, 339
REDUCED_OR_MASK = 1 | 4
"""Bits of SUBFILE: a small copy of another page, or what of it is transparent."""

WHITE_IS_ZERO, BLACK_IS_ZERO = 0, 1
UNSIGNED = 1
LONG = 4


@dataclass(frozen=True, slots=True)
class Directory:
    """What is said of one page. at: where it lies in the file. values: of tags that are short numbers, and places where
    these stand. next_at: where it says which directory follows."""

    at: int
    values: dict[int, int]
    places: dict[int, int]
    next_at: int


class TiffFile:
    """The directories of a file. Raises struct.error where it is too short."""

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
        left out."""
        page = self.first
        directories = {page.at: page}
        with suppress(struct.error):
            while (at := self._read(self._offset, page.next_at)) and at not in directories:
                page = directories[at] = self._directory(at)
        pages = [page for page in directories.values() if not page.values.get(SUBFILE, 0) & REDUCED_OR_MASK]
        return pages or [self.first]

    def alone(self, page: Directory) -> bytes:
        """A file of this page only."""
        out = bytearray(self._data)
        struct.pack_into(f"{self.order}{self._offset}", out, self._first_at, page.at)
        with suppress(struct.error):  # the file may end there
            struct.pack_into(f"{self.order}{self._offset}", out, page.next_at, 0)
        return bytes(out)

    def _read(self, kind: str, at: int) -> int:
        return int(struct.unpack_from(f"{self.order}{kind}", self._data, at)[0])

    def _directory(self, at: int) -> Directory:
        count = self._read("Q" if self._is_big else "H", at)
        first, step = (at + 8, 20) if self._is_big else (at + 2, 12)
        values, places = {}, {}
        for entry in range(first, min(first + count * step, len(self._data) - step + 1), step):
            # Behind tag, type and count stands a value if it is short enough; of these tags it is, with one channel.
            tag, kind = (self._read("H", entry + k) for k in (0, 2))
            places[tag] = entry + step - (8 if self._is_big else 4)
            values[tag] = self._read("I" if kind == LONG else "H", places[tag])
        return Directory(at, values, places, first + count * step)


def deep_range(data: bytes) -> tuple[bytes, DeepRange]:
    """How the numbers of more than 8 bits of the first page become gray; and the file as one in which black is zero,
    since Pillow turns those with 8 bits over and no others, and knows few kinds of them. bits 0: numbers without a
    range.

    Raises struct.error where the file is too short.
    """
    file = TiffFile(data)
    page = file.first
    bits = page.values.get(BITS, 1)
    if bits <= 8 or page.values.get(PHOTOMETRIC) not in (WHITE_IS_ZERO, BLACK_IS_ZERO):
        return data, DeepRange()
    is_inverted = page.values[PHOTOMETRIC] == WHITE_IS_ZERO
    if is_inverted:
        upright = bytearray(data)
        struct.pack_into(f"{file.order}H", upright, page.places[PHOTOMETRIC], BLACK_IS_ZERO)
        data = bytes(upright)
    return data, DeepRange(bits if page.values.get(SAMPLE_FORMAT, UNSIGNED) == UNSIGNED else 0, is_inverted)
