"""What the readers of media share: the key of a content, and the way a part is refused."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import numpy as np

from engine.errors import BadMedia
from engine.types import Part


def content_sha256(content: np.ndarray[Any, Any], unit: str = "") -> str:
    """Hex digest over shape, dtype and pixels or samples; the key under which everything made from them is found again.

    unit: what the numbers alone do not say, e.g. the rate of samples.
    """
    digest = hashlib.sha256(f"{content.shape}{content.dtype.str}{unit}".encode())
    digest.update(np.ascontiguousarray(content).data)
    return digest.hexdigest()


def refuse(part: Part, why: str) -> BadMedia:
    """The error for this part: its place in the client's own words, then what is wrong."""
    return BadMedia(f"{part.param}: {why}", param=part.param)


def data_url(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def say_bytes(num_bytes: float) -> str:
    """1536 -> "1.5 KiB", for messages."""
    for unit in ("bytes", "KiB", "MiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.4g} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.4g} GiB"
