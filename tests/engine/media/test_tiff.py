"""tiff: directories that say more than a file can hold end in words, and cost no more than the file is large."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from engine.config import MediaLimits
from engine.errors import BadMedia
from engine.media import tiff
from engine.media.document import document_parts
from engine.media.image import decode_image
from engine.media.tiff import TiffFile
from engine.types import PageChoice, Part

PART = Part("image", param="here")
LIMITS = MediaLimits()
Entry = tuple[int, int, int, int]
"""tag, kind, count, value or place."""

PIXEL: tuple[Entry, ...] = tuple(
    (tag, 4, 1, value)
    for tag, value in [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 16), (277, 1), (278, 1), (279, 1)]
)
"""One gray pixel at place 16."""


def directory(big: bool, entries: Sequence[Entry], next_at: int = 0, count: int | None = None) -> bytes:
    head, entry, place = ("<Q", "<HHQQ", "<Q") if big else ("<H", "<HHII", "<I")
    listed = b"".join(struct.pack(entry, *one) for one in sorted(entries))
    return struct.pack(head, len(entries) if count is None else count) + listed + struct.pack(place, next_at)


def file(big: bool, *parts: bytes) -> bytes:
    """The first part is the first directory; it begins at place 24."""
    head = b"II+\0" + struct.pack("<HHQ", 8, 0, 24) if big else b"II*\0" + struct.pack("<I", 24) + bytes(8)
    return head + bytes([77]) + bytes(7) + b"".join(parts)


def many_pages(big: bool) -> bytes:
    """Empty directories, each a few bytes behind the other."""
    step = 16 if big else 6
    return file(big, *(directory(big, (), 24 + step * (i + 1)) for i in range(120_000)))


def overlapping(big: bool) -> bytes:
    """Each directory has as many entries as may be, and most of them are those of the one before."""
    step, size = (20, 16) if big else (12, 6)
    body = bytearray(step * 4200)
    heads = struct.pack("<Q" if big else "<H", 4000)
    chain = []
    for i in range(2000):
        at = 24 + size * i
        chain.append((at, heads))
    data = bytearray(file(big, bytes(size * 2000), bytes(body)))
    for at, head in chain:
        data[at : at + len(head)] = head
    return bytes(data)


HOSTILE: dict[str, Callable[[bool], bytes]] = {
    "more entries than a directory has": lambda big: file(big, directory(big, PIXEL, count=5000), bytes(200_000)),
    "as many entries as can be written": lambda big: file(big, directory(big, PIXEL, count=2**63 if big else 65535)),
    "many tags for the same bytes": lambda big: file(
        big, directory(big, (*PIXEL, *((1000 + i, 7, 900_000, 24) for i in range(3000)))), bytes(1_000_000)
    ),
    "many tags up to the end": lambda big: file(
        big, directory(big, (*PIXEL, *((1000 + i, 1, 2**31, 24) for i in range(3000)))), bytes(1_000_000)
    ),
    "one tag many times": lambda big: file(
        big, directory(big, (*PIXEL, *((1000, 7, 900_000, 24) for i in range(3000)))), bytes(1_000_000)
    ),
    "a number of bits for each of millions of channels": lambda big: file(
        big, directory(big, (*(e for e in PIXEL if e[0] != 258), (258, 3, 400_000, 24))), bytes(1_000_000)
    ),
    "millions of strips": lambda big: file(
        big, directory(big, (*(e for e in PIXEL if e[0] != 273), (273, 4, 300_000, 24))), bytes(1_300_000)
    ),
    "many pages": many_pages,
}


def outcome(data: bytes) -> str:
    try:
        return str(decode_image(PART, data, LIMITS).pixels.shape)
    except BadMedia as error:
        assert error.message.startswith("here: ")
        return "refused"


class Work:
    """Counts what is read of directories, and the memory that it takes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.num_reads = 0
        read = TiffFile._read

        def counted(file: TiffFile, *args: Any) -> int:
            self.num_reads += 1
            return read(file, *args)

        monkeypatch.setattr(TiffFile, "_read", counted)

    def of(self, data: bytes) -> tuple[str, float]:
        """What comes of it, and the peak of memory in sizes of the file."""
        tracemalloc.start()
        try:
            return outcome(data), (tracemalloc.get_traced_memory()[1] - 1024**2) / len(data)
        finally:
            tracemalloc.stop()


def check_cost(data: bytes, work: Work) -> str:
    found, sizes = work.of(data)
    assert work.num_reads < 200_000 and sizes < 12, "it costs more than the file"
    return found


@pytest.mark.parametrize("big", [False, True], ids=["TIFF", "BigTIFF"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_directory_that_is_too_large_is_refused(name: str, big: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    data = HOSTILE[name](big)
    assert check_cost(data, Work(monkeypatch)) == "refused"
    document = Part("document", param="here", document=PageChoice())
    with pytest.raises(BadMedia, match="here: "):
        document_parts(document, data, LIMITS)


@pytest.mark.parametrize("what", ["bytes", "pages"])
def test_sabotage_directories_that_are_believed_are_seen(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twins: nobody adds up what the entries point to, or counts the pages."""
    tags = tuple((1000 + i, 7, 900_000, 24) for i in range(60))
    data = many_pages(False) if what == "pages" else file(False, directory(False, (*PIXEL, *tags)), bytes(1_000_000))
    check_cost(data, Work(monkeypatch))
    monkeypatch.setattr(TiffFile, "_bytes_behind", lambda *_: 0)
    monkeypatch.setattr(tiff, "MAX_PAGES", 10**9)
    with pytest.raises(AssertionError, match="it costs more than the file"):
        check_cost(data, Work(monkeypatch))


@pytest.mark.parametrize("big", [False, True], ids=["TIFF", "BigTIFF"])
def test_directories_that_overlap_are_bounded(big: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    data, work = overlapping(big), Work(monkeypatch)
    outcome(data)
    assert work.num_reads < 10 * tiff.MAX_ALL_ENTRIES


@pytest.mark.parametrize("big", [False, True], ids=["TIFF", "BigTIFF"])
@pytest.mark.parametrize("next_at", [1, 24, 10**6, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_next_page_that_cannot_be_is_left_out(big: bool, next_at: int) -> None:
    """Behind the end, inside the header, or the same again: the first page is there all the same."""
    data = file(big, directory(big, PIXEL, next_at if big else next_at % 2**32))
    media = decode_image(PART, data, LIMITS)
    assert media.pixels.tolist() == [[[77] * 3]]


@pytest.mark.parametrize("big", [False, True], ids=["TIFF", "BigTIFF"])
def test_pages_in_a_ring_are_read_once(big: bool) -> None:
    size = len(directory(big, PIXEL))
    ring = [directory(big, PIXEL, 24 + size * ((i + 1) % 5 or 2)) for i in range(5)]
    assert len(TiffFile(file(big, *ring)).pages()) == 5


@pytest.mark.parametrize("big", [False, True], ids=["TIFF", "BigTIFF"])
@pytest.mark.parametrize("first", [1, 10**6, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_first_page_that_cannot_be_is_refused(big: bool, first: int) -> None:
    data = bytearray(file(big, directory(big, PIXEL)))
    struct.pack_into("<Q" if big else "<I", data, 8 if big else 4, first if big else first % 2**32)
    assert outcome(bytes(data)) == "refused"


def test_what_is_large_and_whole_is_read() -> None:
    """A long text, a profile that two tags point to, an entry that points behind the end: all of that is met with."""
    behind = 24 + len(directory(False, PIXEL)) + 4 * 12
    more = ((270, 2, 300_000, behind), (700, 1, 300_000, behind), (65000, 3, 100_000, 2**31), (65001, 99, 2**32 - 1, 5))
    data = file(False, directory(False, (*PIXEL, *more)), bytes(300_000))
    assert outcome(data) == "(1, 1, 3)"


def test_pages_are_copied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of a large file is the file with another first page: so many bytes once more, not twice."""
    size = len(directory(False, PIXEL))
    data = file(False, directory(False, PIXEL, 24 + size), directory(False, PIXEL), bytes(2_000_000))
    whole = TiffFile(data)
    page = whole.pages()[1]
    tracemalloc.start()
    try:
        alone = whole.alone(page)
        assert tracemalloc.get_traced_memory()[1] < 1.5 * len(data)
    finally:
        tracemalloc.stop()
    assert len(TiffFile(alone).pages()) == 1 and TiffFile(alone).first.at == page.at
    assert np.array_equal(decode_image(PART, alone, LIMITS).pixels, decode_image(PART, data, LIMITS).pixels)
