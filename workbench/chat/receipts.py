"""The receipts of a request's media as HTML: a line above an answer's cost, and details that open below it. Pure.

The numbers are those of `usage.media[]` on the API for the same request. The pictures of a receipt are filled in by
chat/receipts.js when it is opened: most never are.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from engine.types import MediaReceipt
from workbench.words import NAMES, milliseconds, plural, seconds, size

MAX_NOTES = 2
"""On the one line of several media; all are in what opens below it."""


def to_html(key: str, media: Sequence[MediaReceipt]) -> str:
    """The receipt of a request, closed; "" without media. key names it to the page."""
    if not media:
        return ""
    items = "".join(f"<li>{_item(receipt, alone=len(media) == 1)}</li>" for receipt in media)
    opener = f'<details class="receipt" id="{html.escape(key)}"><summary>{summary(media)}</summary>'
    return f"{opener}<ol>{items}</ol></details>"


def _item(receipt: MediaReceipt, alone: bool) -> str:
    """One medium: places for its frames; its line, unless that is the summary; further facts."""
    frames = "".join(f"<li><span></span>{seconds(time_s)}</li>" for _, time_s in receipt.frames)
    places = "" if receipt.kind == "audio" else frames or "<li><span></span></li>"
    words = "" if alone else f"<p>{line(receipt)}</p>"
    facts = "".join(f"<li>{fact}</li>" for fact in facts_of(receipt))
    return f'<ol class="frames">{places}</ol>{words}<ul>{facts}</ul>'


def summary(media: Sequence[MediaReceipt]) -> str:
    """All media of a request on one line; for a single medium, its own line."""
    if len(media) == 1:
        return line(media[0])
    names = [NAMES[receipt.kind] for receipt in media]
    counts = [plural(names.count(name), name) for name in dict.fromkeys(names)]
    words = [", ".join(counts), f"{sum(receipt.tokens for receipt in media):,} tokens"]
    notes = dict.fromkeys(html.escape(note) for receipt in media for note in receipt.notes)
    return " · ".join([*words, *(notes if len(notes) <= MAX_NOTES else [plural(len(notes), "note")])])


def line(receipt: MediaReceipt) -> str:
    """Size as sent and as seen by the model, tokens, reuse, time."""
    words = [f"{NAMES[receipt.kind]} {sizes(receipt)}"]
    if receipt.frames:
        first, last = receipt.frames[0][1], receipt.frames[-1][1]
        words.append(f"{plural(len(receipt.frames), 'frame')}, {seconds(first)} to {seconds(last)}")
    words.append(f"{receipt.tokens:,} tokens")
    if reuse := reuse_of(receipt):
        words.append(reuse)
    words += [html.escape(note) for note in receipt.notes]
    words.append(milliseconds(receipt.fetch_ms + receipt.decode_ms + receipt.resize_ms + receipt.encode_ms))
    return " · ".join(words)


def sizes(receipt: MediaReceipt) -> str:
    if receipt.kind == "audio":
        return seconds(receipt.duration_s)
    decoded = f"{receipt.decoded_px[0]} × {receipt.decoded_px[1]}"
    if 0 in receipt.seen_px:
        return decoded
    return f"{decoded} → {receipt.seen_px[0]} × {receipt.seen_px[1]} seen"


def reuse_of(receipt: MediaReceipt) -> str:
    """How much of its vision features was reused; "" for families whose features are not stored."""
    use = receipt.features
    if use is None:
        return ""
    if not use.misses:
        return "reused"
    return f"{use.hits} of {use.hits + use.misses} parts reused" if use.hits else "encoded"


def facts_of(receipt: MediaReceipt) -> list[str]:
    """The facts that are not in the line: file size, time of each step, content hash."""
    steps = (
        ("read", receipt.fetch_ms),
        ("decode", receipt.decode_ms),
        ("resize", receipt.resize_ms),
        ("encode", receipt.encode_ms),
    )
    return [
        size(receipt.num_bytes),
        *(f"{name} {milliseconds(ms)}" for name, ms in steps),
        f"<code>{receipt.sha256[:12]}</code>",
    ]
