"""One-click fit: the same request with smaller pictures and fewer frames, so that an answer fits into the context, and
all of it into memory. Pure; any thread.

The prompt is built again after each step, because only the processor knows what sizes cost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

from engine.errors import BadMedia, MemoryExceeded
from engine.types import NO_LIMIT, FrameSampling, MediaReceipt, Part, Preflight, Request

ROOM_TOKENS = 256
"""Left for the answer where the request does not say how long it may be."""

MAX_STEPS = 8
MIN_FRAMES = 2
_CAUTION = 0.9
_HALF = 0.5
"""Of its media is kept where memory does not suffice: how much of it is too much is not known."""


async def fitted(request: Request, preflight: Callable[[Request], Awaitable[Preflight]]) -> Request | None:
    """See Engine.fit. preflight: what a request would cost."""
    smaller = request
    for _ in range(MAX_STEPS):
        most = 1.0
        try:
            found = await preflight(smaller)
        except MemoryExceeded as refused:
            if refused.cost is None:
                raise
            found, most = refused.cost, _HALF
        except BadMedia:
            # A first look must work; later, sizes have become too small for this model.
            if smaller is request:
                raise
            return None
        if most == 1.0 and found.left >= room(request):
            return smaller
        if (cut := shrunk(smaller, found, most)) is None:
            return None
        smaller = cut
    return None


def room(request: Request) -> int:
    """Context tokens that must be left."""
    return ROOM_TOKENS if request.max_tokens in (None, NO_LIMIT) else request.max_tokens


def shrunk(request: Request, found: Preflight, most: float = 1.0) -> Request | None:
    """The request with its media cut by what it is over, to a share of `most` at most; None when they hold nothing that
    could go.

    A clip loses frames first and keeps their size; from two frames on it loses pixels, as pictures do.
    """
    media_tokens = sum(receipt.tokens for receipt in found.media if receipt.kind != "audio")
    over = max(0, room(request) - found.left)
    if media_tokens == 0 or over >= len(found.tokens):
        return None
    share = max(0.05, min(most, (1 - over / media_tokens) * _CAUTION))
    receipts = deque(found.media)
    messages = tuple(
        replace(m, parts=tuple(_smaller_parts(m.parts, request.frames, receipts, share))) for m in request.messages
    )
    return replace(request, messages=messages)


def _smaller_parts(
    parts: tuple[Part, ...], asked: FrameSampling, receipts: deque[MediaReceipt], share: float
) -> Iterator[Part]:
    for part in parts:
        if part.kind == "document":
            yield _smaller_pages(part, receipts, share)
        else:
            yield part if part.kind == "text" else _smaller(part, asked, receipts.popleft(), share)


def _smaller_pages(part: Part, receipts: deque[MediaReceipt], share: float) -> Part:
    """A document has a receipt for each page, or none if it is a text. All pages keep to what the largest may have."""
    most = 0
    while receipts and receipts[0].param == part.param:
        width, height = _seen_px(receipts.popleft())
        most = max(most, width * height)
    return replace(part, max_pixels=max(1, int(most * share))) if most else part


def _seen_px(receipt: MediaReceipt) -> tuple[int, int]:
    return receipt.seen_px if 0 not in receipt.seen_px else receipt.decoded_px


def _smaller(part: Part, asked: FrameSampling, receipt: MediaReceipt, share: float) -> Part:
    width, height = _seen_px(receipt)
    if part.kind == "image":
        return replace(part, max_pixels=max(1, int(width * height * share)))
    if part.kind != "video":
        return part
    frames = (part.frames or FrameSampling()).over(asked)
    count = len(receipt.frames)
    if count > MIN_FRAMES:
        fewer = max(MIN_FRAMES, int(count * share) // 2 * 2)
        least = min(frames.min_frames or 1, fewer)
        return replace(
            part, frames=replace(frames, max_frames=fewer, min_frames=least, indices=_some(frames.indices, fewer))
        )
    return replace(part, frames=replace(frames, max_pixels=max(1, int(count * width * height * share))))


def _some(indices: tuple[int, ...] | None, count: int) -> tuple[int, ...] | None:
    """So many of the frames that were named, evenly, the first and the last among them."""
    if indices is None or len(indices) <= count:
        return indices
    return tuple(indices[slot * (len(indices) - 1) // (count - 1)] for slot in range(count))
