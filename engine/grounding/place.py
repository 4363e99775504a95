"""From what a model wrote to pixels of the medium as it came. Pure Python; the event loop's thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from engine.grounding.forms import Form
from engine.grounding.read import Mark, read_marks
from engine.types import Delta, Done, Event, Kind, MediaReceipt
from engine.types.grounding import Crop, Region


class Sized(Protocol):
    """A medium with its sizes in pixels; see MediaReceipt."""

    @property
    def kind(self) -> Kind: ...

    @property
    def decoded_px(self) -> tuple[int, int]: ...

    @property
    def seen_px(self) -> tuple[int, int]: ...

    @property
    def crop(self) -> Crop | None: ...


@dataclass(frozen=True, slots=True)
class MediumSize:
    """Of a medium that is in no prompt yet. seen_px: (0, 0) where unknown."""

    kind: Kind
    decoded_px: tuple[int, int]
    seen_px: tuple[int, int] = (0, 0)
    crop: Crop | None = None


@dataclass(frozen=True, slots=True)
class Scale:
    """Between what a model writes and pixels of the medium. counted: what it counts on a whole (width, height).
    size_px: the same sides in pixels of the medium as it was decoded. corner_px: where it begins in the picture that it
    is a part of; (0, 0) of a whole one.

    Every family with a form resizes the whole picture, or cuts the whole of it into tiles, so that a place is a share
    of each side.
    """

    counted: tuple[float, float]
    size_px: tuple[int, int]
    corner_px: tuple[int, int] = (0, 0)

    def px(self, number: float, axis: int) -> float:
        """A number of the model's in pixels. axis: 0 for x, 1 for y."""
        return self.corner_px[axis] + number / self.counted[axis] * self.size_px[axis]

    def px_inside(self, number: float, axis: int) -> float:
        """The same; what lies outside of the medium is brought to its edge."""
        start = self.corner_px[axis]
        return min(max(float(start), self.px(number, axis)), float(start + self.size_px[axis]))

    def written(self, px: float, axis: int) -> float:
        """Pixels as the model would count them."""
        return (px - self.corner_px[axis]) / self.size_px[axis] * self.counted[axis]


def scale_of(medium: Sized, form: Form) -> Scale | None:
    """None where pixels of what the model saw are written, and these are not known."""
    counted = medium.seen_px if form.steps is None else (form.steps, form.steps)
    corner = (medium.crop.x, medium.crop.y) if medium.crop else (0, 0)
    return None if 0 in counted else Scale(counted, medium.decoded_px, corner)


def meant(media: Sequence[Sized]) -> int | None:
    """Which of several media an answer's coordinates are on: the last picture or clip, as no family says which one it
    speaks of. None where there is none."""
    return max((i for i, one in enumerate(media) if one.kind != "audio" and 0 not in one.decoded_px), default=None)


class RegionReader:
    """Reads an answer as it streams, and puts the regions into the receipts of its last event."""

    def __init__(self, form: Form | None) -> None:
        """form: how this model writes places; None for one of which that is not known: nothing is read then."""
        self._form = form
        self._texts: dict[int, list[str]] = {}

    def read(self, event: Event) -> Event:
        """The event as it is, but for the last one, whose receipts get their regions."""
        if self._form is None:
            return event
        if isinstance(event, Done):
            texts = {index: "".join(pieces) for index, pieces in self._texts.items()}
            return replace(event, media=with_regions(event.media, texts, self._form))
        if isinstance(event, Delta) and event.channel == "text":
            self._texts.setdefault(event.index, []).append(event.text)
        return event


def with_regions(media: tuple[MediaReceipt, ...], texts: dict[int, str], form: Form) -> tuple[MediaReceipt, ...]:
    """The receipts with the regions of the answers, by choice: on the medium that is meant."""
    at = meant(media)
    if at is None:
        return media
    marks = ((choice, mark) for choice in sorted(texts) for mark in read_marks(texts[choice], form))
    regions = tuple(filter(None, (place(mark, form, media[at], choice) for choice, mark in marks)))
    return (*media[:at], replace(media[at], regions=regions), *media[at + 1 :])


def place(mark: Mark, form: Form, receipt: MediaReceipt, choice: int = 0) -> Region | None:
    """Where a mark lies on its medium, to a tenth of a pixel. None where that cannot be told (scale_of)."""
    scale = scale_of(receipt, form)
    if scale is None:
        return None
    numbers = mark.numbers
    if form.y_first:
        numbers = tuple(numbers[i] for i in ((1, 0, 3, 2) if mark.kind == "box" else (1, 0)))
    if mark.kind == "box":  # some write the lower corner first
        numbers = (*map(min, numbers[:2], numbers[2:]), *map(max, numbers[:2], numbers[2:]))
    px = tuple(round(scale.px_inside(n, i % 2), 1) for i, n in enumerate(numbers))
    is_cut = any(abs(scale.px(n, i % 2) - inside) > 1 for i, (n, inside) in enumerate(zip(numbers, px, strict=True)))
    return Region(mark.kind, px, mark.numbers, mark.label, choice, _time(mark, receipt), is_cut)


def _time(mark: Mark, receipt: MediaReceipt) -> float | None:
    """Of the frame that the mark names, or that is the nearest to the time that it names."""
    if receipt.kind != "video" or not receipt.frames:
        return None
    if mark.time_s is not None:
        named = mark.time_s
        return min((time_s for _, time_s in receipt.frames), key=lambda time_s: abs(time_s - named))
    if mark.frame is not None and 0 <= mark.frame < len(receipt.frames):
        return receipt.frames[mark.frame][1]
    return None
