"""The boxes and points of an answer, as shares of the picture that they are drawn over. Pure.

Their pixels are those of `usage.media[].boxes` on the API for the same request.
"""

from __future__ import annotations

from engine.types import Json, MediaReceipt
from engine.types.grounding import Region


def regions_of(receipt: MediaReceipt) -> list[Json]:
    """One per region, in the order in which they were written: where it lies in percent of the picture (left, top,
    width, height; of a point 0 wide and high), its pixels, its label, and the places of the frames that it is drawn on:
    the one that the model named, else all."""
    (width, height), crop = receipt.decoded_px, receipt.crop
    corner = (crop.x, crop.y) if crop else (0, 0)
    return [
        {
            "kind": region.kind,
            "label": region.label,
            "pixels": list(region.px),
            "share": _share(region, corner, (width, height)),
            "places": _places(region, receipt),
        }
        for region in receipt.regions
    ]


def _share(region: Region, corner: tuple[int, int], size: tuple[int, int]) -> list[float]:
    """corner: of the part of the picture that is drawn, size: its own, in pixels of the whole."""
    left, top, right, bottom = region.px if region.kind == "box" else (*region.px, *region.px)
    (x, y), (width, height) = corner, size
    shares = ((left - x) / width, (top - y) / height, (right - left) / width, (bottom - top) / height)
    return [round(100 * share, 3) for share in shares]


def _places(region: Region, receipt: MediaReceipt) -> list[int]:
    if region.time_s is None:
        return list(range(max(1, len(receipt.frames))))
    return [place for place, (_, time_s) in enumerate(receipt.frames) if time_s == region.time_s]
