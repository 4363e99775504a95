"""PDF pages as pictures, drawn by PDFium in a process of its own for each document: PDFs come from anywhere, and what
one does to the process that reads it ends one request, not the server.

    media pool ── what is wanted as JSON, bytes ──> child: render ── facts as JSON, PNGs as bytes ──> DocumentPages

Started as `python -m engine.media.pdf`. Nothing but data comes back, and never more than the limit.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.config import MediaLimits
from engine.media.medium import bad_media
from engine.types import Part

if TYPE_CHECKING:
    import pypdfium2

GRACE_S = 5.0
"""The child ends itself at the limit of its processor time; one that waits instead is ended from here, later."""

MAX_SCALE = 300 / 72
"""Pixels per point: more than 300 dots per inch show nothing that a printed page has."""

_LENGTH = struct.Struct("!I")
_MAX_FACTS_BYTES = 64 * 1024**2
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """pages: as in "1-3,7", "" for all; at most max_pages. max_pixels: of one page. with_text: its text layer too."""

    pages: str
    max_pages: int
    max_pixels: int
    with_text: bool


@dataclass(frozen=True, slots=True)
class DocumentPage:
    """number: from 1. png: the page as drawn. text: what lies behind it, "" where nothing was asked for or is there."""

    number: int
    png: bytes
    text: str


@dataclass(frozen=True, slots=True)
class DocumentPages:
    pages: tuple[DocumentPage, ...]
    num_pages: int


def render_apart(part: Part, data: bytes, wanted: Wanted, limits: MediaLimits) -> DocumentPages:
    """Draw the pages in another process. Raises BadMedia: damaged, encrypted, no such page, too many, too slow."""
    deadline = time.monotonic() + limits.decode_timeout_s + GRACE_S
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "engine.media.pdf"],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        )
        theirs.close()
        try:
            asked = {**asdict(wanted), "cpu_s": limits.decode_timeout_s, "memory_bytes": limits.decode_memory_bytes}
            _send(ours, deadline, asked, data)
            ours.shutdown(socket.SHUT_WR)
            return _pages(part, *_received(ours, deadline, limits.max_request_bytes))
        except TimeoutError as error:
            raise bad_media(part, f"reading the PDF took longer than {limits.decode_timeout_s:g} s") from error
        except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
            raise bad_media(part, "the PDF cannot be read: the process that reads it ended") from error
        finally:
            process.kill()
            process.wait()


def _pages(part: Part, facts: dict[str, Any], rest: memoryview) -> DocumentPages:
    if "error" in facts:
        raise bad_media(part, str(facts["error"]))
    pages = []
    for fact in facts["pages"]:
        size = int(fact["png_bytes"])
        if not 0 < size <= len(rest):
            raise ValueError("a page of another length than announced")
        pages.append(DocumentPage(int(fact["number"]), bytes(rest[:size]), str(fact["text"])))
        rest = rest[size:]
    return DocumentPages(tuple(pages), int(facts["num_pages"]))


# both ends


def _send(link: socket.socket, deadline: float, facts: dict[str, Any], *blobs: bytes) -> None:
    head = json.dumps(facts).encode()
    for blob in (_LENGTH.pack(len(head)), head, *blobs):
        link.settimeout(_left(deadline))
        link.sendall(blob)


def _received(link: socket.socket, deadline: float, most: int) -> tuple[dict[str, Any], memoryview]:
    """What the other end sends until it stops. Raises ValueError for more than `most` bytes."""
    data = bytearray()
    while True:
        link.settimeout(_left(deadline))
        piece = link.recv(_PIECE_BYTES)
        if not piece:
            break
        data += piece
        if len(data) > most:
            raise ValueError("more than allowed")
    (length,) = _LENGTH.unpack_from(data)
    if length > _MAX_FACTS_BYTES:
        raise ValueError("more facts than allowed")
    view = memoryview(data)
    return json.loads(bytes(view[_LENGTH.size : _LENGTH.size + length])), view[_LENGTH.size + length :]


def _left(deadline: float) -> float | None:
    return None if deadline == math.inf else max(0.001, deadline - time.monotonic())


# the child


def main() -> None:
    """Read one document from the socket that is this process's standard input, and answer."""
    with socket.socket(fileno=os.dup(0)) as link:
        asked, data = _received(link, math.inf, 1 << 40)
        _limit(asked.pop("cpu_s"), asked.pop("memory_bytes"))
        facts, pngs = _answer(bytes(data), Wanted(**asked))
        _send(link, math.inf, facts, *pngs)


def _answer(data: bytes, wanted: Wanted) -> tuple[dict[str, Any], list[bytes]]:
    import pypdfium2

    pages: list[dict[str, Any]] = []
    pngs = []
    try:
        document = pypdfium2.PdfDocument(data)
        numbers = page_numbers(wanted.pages, len(document), wanted.max_pages)
        document.init_forms()
        for number, png, text in _rendered(document, numbers, wanted):
            pages.append({"number": number, "png_bytes": len(png), "text": text})
            pngs.append(png)
    except pypdfium2.PdfiumError as error:
        is_locked = "password" in str(error).lower()
        return {"error": "the PDF wants a password" if is_locked else "the PDF is damaged, or has no pages"}, []
    except MemoryError:
        return {"error": "the PDF does not fit in the memory that decoding may take"}, []
    except ValueError as error:
        return {"error": str(error)}, []
    return {"num_pages": len(document), "pages": pages}, pngs


def _rendered(document: pypdfium2.PdfDocument, numbers: list[int], wanted: Wanted) -> Iterator[tuple[int, bytes, str]]:
    for number in numbers:
        page = document[number - 1]
        width, height = page.get_size()
        if not (width > 0 and height > 0):
            raise ValueError(f"page {number} has no size")
        scale = min(MAX_SCALE, _scale(width, height, wanted.max_pixels))
        picture = page.render(scale=scale, rev_byteorder=True).to_pil().convert("RGB")
        out = io.BytesIO()
        picture.save(out, "PNG", compress_level=1)
        text = page.get_textpage().get_text_bounded().replace("\r\n", "\n") if wanted.with_text else ""
        yield number, out.getvalue(), text
        page.close()


def _scale(width: float, height: float, max_pixels: int) -> float:
    """The largest at which a page of so many points has at most max_pixels; PDFium rounds both sides up."""
    total, area = width + height, width * height
    return max(1e-9, (math.sqrt(total**2 + 4 * area * (max_pixels - 1)) - total) / (2 * area))


def page_numbers(pages: str, num_pages: int, most: int) -> list[int]:
    """ "1-3,7" -> [1, 2, 3, 7], each once, in the order asked for. Raises ValueError with a sentence."""
    numbers: dict[int, None] = {}
    for piece in pages.split(",") if pages.strip() else [f"1-{num_pages}"]:
        first, _, last = (word.strip() for word in piece.partition("-"))
        low, high = int(first), int(last or first)
        if not 1 <= low <= high <= num_pages:
            raise ValueError(f"there are no pages {piece.strip()}: the document has {num_pages}")
        numbers |= dict.fromkeys(range(low, high + 1))
    if len(numbers) > most:
        raise ValueError(f'{len(numbers)} pages are too many, at most {most} are allowed; name some: pages "1-{most}"')
    return list(numbers)


def _limit(cpu_s: float, memory_bytes: int) -> None:
    """Seconds of CPU, and memory, where the system can (macOS ignores the second)."""
    import resource

    for what, most in ((resource.RLIMIT_CPU, math.ceil(cpu_s)), (resource.RLIMIT_AS, memory_bytes)):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(what, (most, resource.getrlimit(what)[1]))


if __name__ == "__main__":
    main()
