"""Colour profiles and what they mean, computed here: so that the library that reads them is not asked whether it is
right. ICC.1:2022, https://www.color.org/specification/ICC.1-2022-05.pdf
"""

from __future__ import annotations

import struct

import numpy as np

# Columns: XYZ (D50) of red, green and blue.
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
DISPLAY_P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
ADOBE_RGB = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
SWAPPED = SRGB[:, ::-1]
D50 = np.array([0.9642, 1.0, 0.8249])


def matrix_profile(primaries: np.ndarray, gamma: float) -> bytes:
    """An RGB profile of three primaries and one power curve."""
    curve = struct.pack(">4sIIH", b"curv", 0, 1, round(gamma * 256)) + bytes(2)
    tags = {b"wtpt": _xyz(D50), b"cprt": _text(b"none"), b"desc": _described(b"made for a test")}
    tags |= {name: _xyz(primaries[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    return _profile(b"RGB ", b"XYZ ", tags)


def gray_profile(gamma: float) -> bytes:
    curve = struct.pack(">4sIIH", b"curv", 0, 1, round(gamma * 256)) + bytes(2)
    tags = {b"wtpt": _xyz(D50), b"cprt": _text(b"none"), b"desc": _described(b"gray"), b"kTRC": curve}
    return _profile(b"GRAY", b"XYZ ", tags)


def cmyk_profile(corners: dict[tuple[int, int, int, int], tuple[int, int, int]]) -> bytes:
    """A table of what each full or missing ink gives, as Lab in its 8-bit form; where nothing is said, black."""
    table = bytes(range(256))
    grid = b"".join(
        bytes(corners.get((c, m, y, k), (0, 128, 128))) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)
    )
    unit = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    lut = struct.pack(">4sIBBBx", b"mft1", 0, 4, 3, 2) + unit + table * 4 + grid + table * 3
    tags = {b"wtpt": _xyz(D50), b"cprt": _text(b"none"), b"desc": _described(b"inks"), b"A2B0": lut}
    return _profile(b"CMYK", b"Lab ", tags)


def shown(rgb: tuple[int, int, int], primaries: np.ndarray, gamma: float) -> list[int]:
    """The sRGB bytes of a colour in a matrix profile."""
    return encoded(primaries @ (np.array(rgb) / 255) ** gamma)


def lab_shown(lab: tuple[int, int, int]) -> list[int]:
    """The sRGB bytes of an 8-bit Lab."""
    lightness, a, b = lab[0] / 2.55, lab[1] - 128, lab[2] - 128
    fy = (lightness + 16) / 116
    f = np.array([fy + a / 500, fy, fy - b / 200])
    return encoded(D50 * np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)))


def encoded(xyz: np.ndarray) -> list[int]:
    """XYZ (D50) -> sRGB bytes, IEC 61966-2-1."""
    linear = np.clip(np.linalg.inv(SRGB) @ xyz, 0, 1)
    return np.round(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255).tolist()


def _profile(space: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    at = 128 + 4 + 12 * len(tags)
    table, bodies = struct.pack(">I", len(tags)), b""
    for name, body in tags.items():
        table += struct.pack(">4sII", name, at + len(bodies), len(body))
        bodies += body + bytes(-len(body) % 4)
    kind = b"prtr" if space == b"CMYK" else b"mntr"
    head = struct.pack(">I4sI4s4s4s", at + len(bodies), b"test", 0x02400000, kind, space, pcs)
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + _xyz(D50)[8:] + bytes(48)
    return head + table + bodies


def _xyz(xyz: np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in xyz))


def _text(words: bytes) -> bytes:
    return b"text" + bytes(4) + words + b"\0"


def _described(words: bytes) -> bytes:
    return b"desc" + bytes(4) + struct.pack(">I", len(words) + 1) + words + b"\0" + bytes(78)
