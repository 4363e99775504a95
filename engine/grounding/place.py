"""From what a model wrote to pixels of the medium as it came. Pure Python; the event loop's thread."""

from __future__ import annotations

from dataclasses import replace

from engine.grounding.forms import Form
from engine.grounding.read import Mark, read_marks
from engine.types import Delta, Done, Event, MediaReceipt
from engine.types.grounding import Region


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
    """The receipts with the regions of the answers, by choice. Of several pictures and clips the last is meant: no
    family says which it speaks of."""
    seen = [i for i, receipt in enumerate(media) if receipt.kind != "audio" and 0 not in receipt.decoded_px]
    if not seen:
        return media
    at = seen[-1]
    marks = ((choice, mark) for choice in sorted(texts) for mark in read_marks(texts[choice], form))
    regions = tuple(filter(None, (place(mark, form, media[at], choice) for choice, mark in marks)))
    return (*media[:at], replace(media[at], regions=regions), *media[at + 1 :])


def place(mark: Mark, form: Form, receipt: MediaReceipt, choice: int = 0) -> Region | None:
    """Where a mark lies on its medium, to a tenth of a pixel. None where pixels were written and what the model saw is
    not known.

    Every family with a form resizes the whole picture, or cuts the whole of it into tiles, so that a place is a share
    of each side.
    """
    sides = receipt.seen_px if form.steps is None else (form.steps, form.steps)
    if 0 in sides:
        return None
    numbers = mark.numbers
    if form.y_first:
        numbers = tuple(numbers[i] for i in ((1, 0, 3, 2) if mark.kind == "box" else (1, 0)))
    if mark.kind == "box":  # some write the lower corner first
        numbers = (*map(min, numbers[:2], numbers[2:]), *map(max, numbers[:2], numbers[2:]))
    width, height = receipt.decoded_px
    exact = [n / sides[i % 2] * (width, height)[i % 2] for i, n in enumerate(numbers)]
    px = tuple(round(min(max(0.0, n), (width, height)[i % 2]), 1) for i, n in enumerate(exact))
    is_cut = any(abs(a - b) > 1 for a, b in zip(exact, px, strict=True))
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
