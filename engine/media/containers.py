"""The containers of clips: the one table that the sniffer, the decoder and the page read."""

from __future__ import annotations

import struct
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Container:
    """name: for people. demuxer: FFmpeg's, the only one that is let at such a file. suffixes: as files are called."""

    name: str
    demuxer: str
    suffixes: tuple[str, ...]


CONTAINERS = (
    Container("MP4", "mp4", (".mp4", ".m4v", ".3gp", ".3g2")),
    Container("MOV", "mov", (".mov", ".qt")),
    Container("WebM/MKV", "matroska", (".webm", ".mkv")),
    Container("AVI", "avi", (".avi",)),
    Container("MPEG-TS", "mpegts", (".ts", ".mts", ".m2ts")),
    Container("MPEG", "mpeg", (".mpg", ".mpeg", ".vob")),
    Container("MPEG video", "mpegvideo", (".m2v", ".m1v")),
    Container("ASF/WMV", "asf", (".wmv", ".asf")),
    Container("Ogg video", "ogg", (".ogv", ".ogg")),
    Container("FLV", "flv", (".flv",)),
    Container("DV", "dv", (".dv",)),
)

CLIP_SUFFIXES = tuple(suffix for container in CONTAINERS for suffix in container.suffixes if suffix != ".ogg")
"""Names that say "a clip" before the bytes are looked at; ".ogg" says it of sounds too."""

TS_PACKETS = (188, 192, 204)
"""Bytes of a transport stream's packet: plain, with a time stamp before it (.m2ts), with error correction behind it."""

TS_REPEATS = 5
OGG_VIDEO = (b"\x80theora", b"OVP80", b"BBCD\x00")


def by_name(name: str) -> Container:
    return next(container for container in CONTAINERS if container.name == name)


def is_transport_stream(head: bytes) -> bool:
    """Whether sync bytes follow each other at a packet's distance, wherever the stream was cut (ISO/IEC 13818-1)."""
    for size in TS_PACKETS:
        for at in range(min(size, len(head) - (TS_REPEATS - 1) * size)):
            if all(head[at + size * k] == 0x47 for k in range(TS_REPEATS)):
                return True
    return False


def is_cut_off(data: bytes, name: str) -> bool | None:
    """Whether the container says that it has more than there is; None where only its duration could tell, and False
    where that too is worked out from what there is."""
    if name in ("MP4", "MOV"):
        return _ends_inside_a_box(data)
    if name == "AVI":
        return len(data) + 1 < 8 + int(struct.unpack("<I", data[4:8])[0])
    return None if name in ("WebM/MKV", "FLV", "ASF/WMV") else False


def _ends_inside_a_box(data: bytes) -> bool:
    """ISO/IEC 14496-12, 4.2: a box is its size, its kind, and where the size is 1 a longer size."""
    at = 0
    while at + 8 <= len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        if size == 1 and at + 16 <= len(data):
            (size,) = struct.unpack(">Q", data[at + 8 : at + 16])
        if size == 0:  # to the end of the file
            return False
        if size < 8:
            return True
        at += size
    return at > len(data)
