"""An answer as a notebook shows it: its text, and what the model saw of each medium. Pure.

Everything that comes from a model, a file or a caller is escaped: none of it is markup.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from engine.types import Kind, MediaReceipt

NAMES: dict[Kind, str] = {"image": "picture", "video": "clip", "audio": "sound"}
MAX_TIMES = 12


def as_html(text: str, media: Sequence[MediaReceipt], thumbnails: Sequence[bytes | None]) -> str:
    """thumbnails: a PNG of each medium, None where there is none."""
    rows = "".join(_row(receipt, png) for receipt, png in zip(media, thumbnails, strict=True))
    table = f'<table style="font-size: 90%">{rows}</table>' if rows else ""
    return f'<div><div style="white-space: pre-wrap">{escape(text)}</div>{table}</div>'


def _row(receipt: MediaReceipt, png: bytes | None) -> str:
    shown = ""
    if png is not None:
        url = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        shown = f'<img src="{url}" alt="" style="max-height: 5em">'
    facts = "".join(f"<div>{escape(fact)}</div>" for fact in _facts(receipt))
    return f'<tr><td>{shown}</td><td style="text-align: left">{facts}</td></tr>'


def _facts(receipt: MediaReceipt) -> list[str]:
    name = NAMES.get(receipt.kind, receipt.kind)
    facts = [f"{receipt.param} · {name} · {receipt.tokens:,} tokens"]
    if receipt.kind == "audio":
        facts.append(f"{receipt.duration_s:.1f} s of sound")
    else:
        facts.append(f"{_px(receipt.decoded_px)} came, the model saw {_px(receipt.seen_px)}")
    if receipt.frames:
        times = [f"{time_s:.2f} s" for _, time_s in receipt.frames[:MAX_TIMES]]
        rest = len(receipt.frames) - len(times)
        facts.append(f"{len(receipt.frames)} frames: {', '.join(times)}{f' and {rest} more' if rest else ''}")
    return [*facts, *receipt.notes]


def _px(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]} px" if any(size) else "its own size"
