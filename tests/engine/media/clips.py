"""Clips whose frames carry their own number, so that a test can read which frame it was given."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

BITS = 10
CELL_PX = 16


def coded_frame(number: int) -> np.ndarray:
    """(64, 160, 3) uint8: ten bars, white for the bits that are set, between a red top and a blue bottom edge (RGB)."""
    frame = np.zeros((64, BITS * CELL_PX, 3), np.uint8)
    for bit in range(BITS):
        frame[:, bit * CELL_PX : (bit + 1) * CELL_PX] = 255 * (number >> bit & 1)
    frame[:16], frame[48:] = (255, 0, 0), (0, 0, 255)
    return frame


def read_number(frame: np.ndarray) -> int:
    """The number in a coded frame of any size."""
    middle, width = frame[frame.shape[0] // 2], frame.shape[1]
    return sum(1 << bit for bit in range(BITS) if middle[int((bit + 0.5) * width / BITS)].mean() > 127)


def write_coded_clip(path: Path, count: int, fps: float = 10.0, codec: str = "mp4v") -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (BITS * CELL_PX, 64))
    assert writer.isOpened(), f"this OpenCV cannot write {codec}"
    for number in range(count):
        writer.write(cv2.cvtColor(coded_frame(number), cv2.COLOR_RGB2BGR))
    writer.release()
    return path


BURNT_BITS = 16
COLOURS = ((235, 235, 235), (200, 200, 20), (20, 200, 200), (20, 180, 20), (200, 30, 200), (200, 20, 20), (30, 30, 220))
"""From left to right in the bar on top."""


def burnt(number: int, time_s: float, size: tuple[int, int] = (320, 96)) -> np.ndarray:
    """(H, W, 3) uint8 RGB with its own number and time in it: colours on top, then the number, then hundredths of a
    second, 16 bits each, the lowest to the left, white for those that are set."""
    width, height = size
    frame = np.zeros((height, width, 3), np.uint8)
    for place, colour in enumerate(COLOURS):
        frame[: height // 3, place * width // len(COLOURS) : (place + 1) * width // len(COLOURS)] = colour
    for band, value in ((1, number), (2, round(time_s * 100))):
        for bit in range(BURNT_BITS):
            left, right = bit * width // BURNT_BITS, (bit + 1) * width // BURNT_BITS
            frame[band * height // 3 : (band + 1) * height // 3, left:right] = 16 + 219 * (value >> bit & 1)
    return frame


def read_burnt(frame: np.ndarray) -> tuple[int, float]:
    """(number, time in s) of a burnt frame of any size."""
    height, width = frame.shape[:2]
    values = []
    for band in (1, 2):
        row = frame[int((band + 0.5) * height / 3)].mean(axis=-1)
        bits = [row[int((bit + 0.5) * width / BURNT_BITS)] > 127 for bit in range(BURNT_BITS)]
        values.append(sum(1 << bit for bit, is_set in enumerate(bits) if is_set))
    return values[0], values[1] / 100


def colour_error(frame: np.ndarray) -> float:
    """The greatest difference from the colours that were burnt in, of 255."""
    height, width = frame.shape[:2]
    half, at = width // len(COLOURS) // 6, height // 6
    seen = [
        frame[at - 2 : at + 3, int((k + 0.5) * width / len(COLOURS)) - half :][:, : 2 * half].mean(axis=(0, 1))
        for k in range(len(COLOURS))
    ]
    return float(np.abs(np.array(seen) - np.array(COLOURS)).max())
