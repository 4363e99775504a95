"""Grounding: the boxes and points that a model wrote in its answer. Frozen values, safe in every thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RegionKind = Literal["box", "point"]


@dataclass(frozen=True, slots=True)
class Region:
    """A box or a point on a medium.

    px: (left, top, right, bottom) of a box, (x, y) of a point, in pixels of the medium as it was decoded
    (MediaReceipt.decoded_px): turned upright, before it was resized for the model. written: the numbers as the model
    wrote them, in its order. label: what it wrote beside them, "" where nothing. choice: index of the answer.
    time_s: of the frame of a clip, None where the model named none, and for a picture.
    is_cut: part of it lay outside of the medium and was brought to its edge.
    """

    kind: RegionKind
    px: tuple[float, ...]
    written: tuple[float, ...]
    label: str = ""
    choice: int = 0
    time_s: float | None = None
    is_cut: bool = False
