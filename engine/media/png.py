"""PNG files as browsers read them: what a picture does not need must not spoil it.

Pillow refuses a file whose comments are long or whose unimportant chunks have a wrong checksum. So only the chunks that
make the picture are handed on. https://www.w3.org/TR/png-3/#5Chunk-layout
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXT = (b"tEXt", b"zTXt", b"iTXt")
ANIMATION = (b"acTL", b"fcTL", b"fdAT")
MAX_PROFILE_BYTES = 16 * 1024**2
"""Of a colour profile when unpacked. Those of printers have some megabytes."""


@dataclass(frozen=True, slots=True)
class CleanPng:
    """data: a PNG of the chunks that make the picture. profile: its ICC profile, b"" without one. codes: of primaries
    and transfer, where it has such (engine.media.cicp)."""

    data: bytes
    profile: bytes
    codes: tuple[int, int] | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    name: bytes
    body: bytes
    whole: bytes
    is_sound: bool

    @property
    def is_needed(self) -> bool:
        """A capital first letter: without it there is no picture."""
        return self.name[:1].isupper()


def cleaned(data: bytes) -> CleanPng:
    """The file without comments, damaged unimportant chunks and its colour profile, which is handed out beside it."""
    profile = b""
    notes: list[str] = []
    codes = None
    kept: list[Chunk] = []
    for chunk in _chunks(data):
        if not chunk.is_sound and not chunk.is_needed:
            name = chunk.name.decode("latin-1")
            notes.append(f"a chunk that is not needed ({name}) has a wrong checksum and was left out")
        elif chunk.name == b"iCCP":
            profile = _profile(chunk.body)
        elif chunk.name == b"cICP" and len(chunk.body) == 4:
            codes = (chunk.body[0], chunk.body[1])
        elif chunk.name not in TEXT:
            if chunk.name == b"IDAT" and not chunk.is_sound:
                notes.append("a checksum of its pixels is wrong")
            kept.append(chunk)
    if any(not chunk.is_sound for chunk in _chunks(data) if chunk.name in ANIMATION):
        # Its chunks count on each other.
        kept = [chunk for chunk in kept if chunk.name not in ANIMATION]
        notes.append("its animation is damaged")
    whole = SIGNATURE + b"".join(chunk.whole for chunk in kept)
    return CleanPng(whole, profile, codes, tuple(dict.fromkeys(notes)))


def _chunks(data: bytes) -> Iterator[Chunk]:
    """Up to IEND. A last one that is cut off comes as it is, for the decoder to complain about."""
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        body, checksum = data[at + 8 : end - 4], data[end - 4 : end]
        is_whole = end <= len(data)
        is_sound = not is_whole or checksum == struct.pack(">I", zlib.crc32(name + body))
        yield Chunk(name, body if is_whole else b"", data[at:end], is_sound)
        if name == b"IEND":
            return
        at = end


def _profile(body: bytes) -> bytes:
    """Of iCCP: a name, a zero, a zero for deflate, the packed profile. b"" where that is damaged or too large."""
    packed = body.partition(b"\0")[2][1:]
    try:
        unpacker = zlib.decompressobj()
        profile = unpacker.decompress(packed, MAX_PROFILE_BYTES)
    except zlib.error:
        return b""
    return profile if unpacker.eof else b""
