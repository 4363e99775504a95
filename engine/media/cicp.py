"""Colours that are said by code numbers instead of a profile: in AVIF, HEIC and PNG. Each becomes a profile.

Codes: ITU-T H.273, https://www.itu.int/rec/T-REC-H.273; profiles: ICC.1:2022, https://www.color.org/specification/ICC.1-2022-05.pdf
"""

from __future__ import annotations

import re
import struct

PRIMARIES = {
    9: ((0.67348, 0.27904, -0.00193), (0.16567, 0.67534, 0.02998), (0.12505, 0.04562, 0.79686)),
    12: ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)),
}
"""BT.2020 and Display P3: XYZ of red, green and blue, brought to the white of profiles (D50). The others that pictures
have (1, 2, 5, 6) are those of sRGB or so near that browsers take them as such."""

SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
HDR = {16: "PQ", 18: "HLG"}
IN_A_BOX = re.compile(rb"colrnclx(....)", re.DOTALL)
"""HEIF: ISO/IEC 14496-12, 12.1.5."""
HEAD_BYTES = 1 << 16
D50 = (0.9642, 1.0, 0.8249)
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def of_heif(data: bytes) -> tuple[int, int]:
    """(primaries, transfer) of an AVIF or HEIC file; (2, 2), which means unspecified, where it does not say."""
    said = IN_A_BOX.search(data[:HEAD_BYTES])
    return struct.unpack(">HH", said[1]) if said else (2, 2)


def profile_of(primaries: int, transfer: int) -> tuple[bytes, str]:
    """A profile, b"" where these codes say sRGB; and a note, "" where nothing is lost."""
    if name := HDR.get(transfer):
        return b"", f"its brightness is HDR ({name}) and was read as if it were not"
    if transfer == 8:
        return matrix_profile(PRIMARIES.get(primaries, SRGB), (1.0,)), ""
    return (matrix_profile(PRIMARIES[primaries], SRGB_CURVE) if primaries in PRIMARIES else b""), ""


def gamma_profile(gamma: float) -> bytes:
    """Of a PNG's gAMA chunk, whose number is the exponent from light to stored values; b"" for that of sRGB."""
    return matrix_profile(SRGB, (1 / gamma,)) if 0.05 < gamma < 5 and abs(gamma * 2.2 - 1) > 0.03 else b""


def matrix_profile(primaries: tuple[tuple[float, ...], ...], curve: tuple[float, ...]) -> bytes:
    """An RGB profile. primaries: XYZ (D50) of each; curve: parameters of ICC's parametricCurveType, 1 or 5 of them."""
    kind = {1: 0, 5: 3}[len(curve)]
    para = b"para" + struct.pack(">IHH", 0, kind, 0) + _fixed(curve)
    tags = {
        b"desc": b"mluc" + struct.pack(">IIIHHII", 0, 1, 12, 0x656E, 0x5553, 2, 28) + b"\0x\0\0",
        b"cprt": b"mluc" + struct.pack(">IIIHHII", 0, 1, 12, 0x656E, 0x5553, 2, 28) + b"\0x\0\0",
        b"wtpt": b"XYZ " + bytes(4) + _fixed(D50),
        **{
            name: b"XYZ " + bytes(4) + _fixed(xyz)
            for name, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)
        },
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), para),
    }
    at = 128 + 4 + 12 * len(tags)
    table, bodies = struct.pack(">I", len(tags)), b""
    for name, body in tags.items():
        table += struct.pack(">4sII", name, at + len(bodies), len(body))
        bodies += body + bytes(-len(body) % 4)
    head = struct.pack(">I4sI4s4s4s12s4s", at + len(bodies), b"", 0x04200000, b"mntr", b"RGB ", b"XYZ ", b"", b"acsp")
    return head + bytes(28) + _fixed(D50) + bytes(48) + table + bodies


def _fixed(numbers: tuple[float, ...]) -> bytes:
    """s15Fixed16Number"""
    return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))
