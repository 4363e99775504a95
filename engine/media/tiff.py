"""What a TIFF says about the numbers of its first page, read here because Pillow does not use it for deep gray.
TIFF 6.0, https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf; BigTIFF, https://www.awaresystems.be/imaging/tiff/bigtiff.html
"""

from __future__ import annotations

import struct

from engine.media.colour import DeepRange

BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
WHITE_IS_ZERO, BLACK_IS_ZERO = 0, 1
UNSIGNED = 1


def deep_range(data: bytes) -> tuple[bytes, DeepRange]:
    """How the numbers of more than 8 bits become gray; and the file as one in which black is zero, since Pillow turns
    those with 8 bits over and no others, and knows few kinds of them. bits 0: numbers without a range.

    Raises struct.error where the file is too short.
    """
    order = ">" if data[:1] == b"M" else "<"
    is_big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    (at,) = struct.unpack_from(f"{order}{'Q' if is_big else 'I'}", data, 8 if is_big else 4)
    (count,) = struct.unpack_from(f"{order}{'Q' if is_big else 'H'}", data, at)
    first, step = (at + 8, 20) if is_big else (at + 2, 12)
    # Behind tag, type and count stands a value if it is short enough; of these tags it is, with one channel.
    places = {}
    for entry in range(first, min(first + count * step, len(data) - step + 1), step):
        places[struct.unpack_from(f"{order}H", data, entry)[0]] = entry + step - (8 if is_big else 4)
    values = {tag: struct.unpack_from(f"{order}H", data, place)[0] for tag, place in places.items()}
    bits = values.get(BITS, 1)
    if bits <= 8 or values.get(PHOTOMETRIC) not in (WHITE_IS_ZERO, BLACK_IS_ZERO):
        return data, DeepRange()
    is_inverted = values[PHOTOMETRIC] == WHITE_IS_ZERO
    if is_inverted:
        upright = bytearray(data)
        struct.pack_into(f"{order}H", upright, places[PHOTOMETRIC], BLACK_IS_ZERO)
        data = bytes(upright)
    return data, DeepRange(bits if values.get(SAMPLE_FORMAT, UNSIGNED) == UNSIGNED else 0, is_inverted)
