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
