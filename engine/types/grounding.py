"""Grounding: the boxes and points that a model wrote in its answer. Frozen values, safe in every thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

RegionKind = Literal["box", "point"]
Coordinates = Literal["model", "original"]
"""In what an answer's coordinates are given: as the model writes them, or in pixels of the medium as it was decoded."""


@dataclass(frozen=True, slots=True)
class CoordinatesGiven:
    """What became of a wish for coordinates in pixels of the original. why: the reason where some or all of them are
    as the model wrote them, "" where none are."""

    given_in: Coordinates
    why: str = ""


@dataclass(frozen=True, slots=True)
class Crop:
    """Where the part of a picture lies that went in. x, y: its upper left corner, of_px: (width, height) of the whole,
    in pixels of the picture upright. How large it is, is the medium's own size."""

    x: int
    y: int
    of_px: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Region:
    """A box or a point on a medium.

    px: (left, top, right, bottom) of a box, (x, y) of a point, in pixels of the medium as it was decoded
    (MediaReceipt.decoded_px): turned upright, before it was resized for the model; of a part of a picture, in pixels of
    the whole (Crop). written: the numbers as the model
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

    def as_json(self) -> dict[str, Any]:
        """In pixels of the medium; and what the model wrote."""
        return {
            "kind": self.kind,
            "label": self.label,
            "pixels": list(self.px),
            "written": list(self.written),
            "time": self.time_s,
            "choice": self.choice,
            "cut": self.is_cut,
        }
