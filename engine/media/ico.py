"""Icons (.ico): one file with several pictures, of which the largest is meant. Inside is a PNG or a headless BMP."""

from __future__ import annotations

import struct

ENTRY = struct.Struct("<BBBBHHII")


def largest(data: bytes) -> bytes:
    """The PNG of the largest picture, or an icon file with that picture alone. Raises ValueError when damaged."""
    _, _, count = struct.unpack_from("<HHH", data)
    entries = [ENTRY.unpack_from(data, 6 + i * ENTRY.size) for i in range(count)]
    if not entries:
        raise ValueError("an icon without pictures")
    # 0 stands for 256; of one size the one with more bits.
    best = max(entries, key=lambda entry: ((entry[0] or 256) * (entry[1] or 256), entry[5]))
    size, offset = best[-2:]
    picture = data[offset : offset + size]
    if len(picture) < size:
        raise ValueError("truncated icon")
    if picture.startswith(b"\x89PNG"):
        return picture
    return struct.pack("<HHH", 0, 1, 1) + ENTRY.pack(*best[:-1], 6 + ENTRY.size) + picture
