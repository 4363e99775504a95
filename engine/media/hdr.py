"""Wide and bright colours as an ordinary screen shows them: linear light, the screen's primaries, sRGB's curve.

Sources: ITU-R BT.2100-2 (PQ and HLG), BT.2408 (203 cd/m2 is white), Reinhard et al. 2002, equation 4, on the brightest
of the three channels (what is as bright as PEAK_NITS becomes white, hues stay). Matrices follow from the primaries' x
and y (SMPTE RP 177).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from engine.types.media import Pixels

PQ, HLG = 16, 18
"""As FFmpeg numbers transfer curves and primaries (ITU-T H.273, tables 2 and 3)."""

WHITE_NITS = 203.0
PEAK_NITS = 1000.0
D65 = (0.3127, 0.3290)
SCREEN = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
WIDE = {
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),  # BT.2020
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # Display P3
}

Floats = np.ndarray[Any, np.dtype[np.float32]]


def needs_mapping(transfer: int, primaries: int) -> bool:
    """Whether an ordinary screen would show these numbers wrongly."""
    return transfer in (PQ, HLG) or primaries in WIDE


def to_srgb(deep: np.ndarray[Any, np.dtype[np.uint16]], transfer: int, primaries: int) -> Pixels:
    """(H, W, 3) uint16 RGB, full range, of a curve and primaries, to (H, W, 3) uint8 sRGB."""
    light = _light(transfer)[deep >> 4]
    if transfer == HLG:  # BT.2100, table 5: the scene's light as a screen of PEAK_NITS shows it
        luminance = light @ np.array([0.2627, 0.6780, 0.0593], np.float32)
        light *= (PEAK_NITS / WHITE_NITS) * np.power(luminance, 0.2)[..., None]
    if primaries in WIDE:
        light = np.maximum(light @ _to_screen(primaries).T, 0)
    if transfer in (PQ, HLG):
        most, white = light.max(axis=2, keepdims=True), (PEAK_NITS / WHITE_NITS) ** 2
        light *= (1 + most / white) / (1 + most)
    pixels: Pixels = _curve()[(np.clip(light, 0, 1) * 4095 + 0.5).astype(np.uint16)]
    return pixels


@lru_cache(maxsize=4)
def _light(transfer: int) -> Floats:
    """Linear light of each of 4096 levels: 1.0 is white (PQ), the brightest there is (HLG), or sRGB's white."""
    level = np.arange(4096) / 4095
    if transfer == PQ:
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        root = level ** (1 / m2)
        light = 10_000 / WHITE_NITS * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
    elif transfer == HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(level <= 0.5, level**2 / 3, (np.exp((level - c) / a) + b) / 12)
    else:
        light = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    return light.astype(np.float32)


@lru_cache(maxsize=1)
def _curve() -> Pixels:
    """sRGB's code (IEC 61966-2-1) of each of 4096 levels of light."""
    light = np.arange(4096) / 4095
    code = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return (code * 255 + 0.5).astype(np.uint8)


@lru_cache(maxsize=2)
def _to_screen(primaries: int) -> Floats:
    """Linear RGB of these primaries to linear RGB of the screen's."""
    matrix: Floats = (np.linalg.inv(_to_xyz(SCREEN)) @ _to_xyz(WIDE[primaries])).astype(np.float32)
    return matrix


def _to_xyz(primaries: tuple[tuple[float, float], ...]) -> np.ndarray[Any, np.dtype[np.float64]]:
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    white = np.array([D65[0] / D65[1], 1, (1 - D65[0] - D65[1]) / D65[1]])
    return columns * np.linalg.solve(columns, white)
