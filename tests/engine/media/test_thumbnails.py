"""Thumbnails: a picture, a clip and each of its frames; bounded, and cheap beside the decoding."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.media import thumbnails
from engine.media.thumbnails import Thumbnails, reduced
from engine.types.media import Media
from tests.engine.drive import ask, chat


def clip(name: str, num_frames: int = 4, size: tuple[int, int] = (90, 160)) -> Media:
    """Each frame one grey, lighter from frame to frame."""
    pixels = np.stack([np.full((*size, 3), 20 + 20 * i, np.uint8) for i in range(num_frames)])
    return Media("video", pixels, sha256=name, num_bytes=9, decoded_px=size[::-1])


def grey(data: bytes | None) -> int:
    assert data is not None
    return int(np.asarray(Image.open(io.BytesIO(data)).convert("L")).mean().round())


def test_each_frame_has_its_own() -> None:
    kept = Thumbnails()
    kept.keep(clip("a", size=(720, 1280)))
    assert [grey(kept.get("a", frame)) for frame in range(4)] == [20, 40, 60, 80]
    assert Image.open(io.BytesIO(kept.get("a", 1) or b"")).size == (64, 36)
    assert Image.open(io.BytesIO(kept.get("a") or b"")).size == (160, 90)
    assert [kept.get("a", frame) for frame in (-1, 4)] == [None, None] and kept.get("b", 0) is None
    kept.keep(Media("image", clip("").pixels[0], sha256="p", num_bytes=9, decoded_px=(160, 90)))
    assert kept.get("p") is not None and kept.get("p", 0) is None


def test_they_are_bounded_and_what_was_sent_again_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "_MAX_MEDIA", 3)
    kept = Thumbnails()
    for name in ("a", "b", "c", "a", "d"):
        kept.keep(clip(name))
    assert [name for name in "abcd" if kept.get(name)] == ["a", "c", "d"]
    monkeypatch.setattr(thumbnails, "_MAX_BYTES", 1)
    small = Thumbnails()
    small.keep(clip("e"))
    assert small.get("e") is None, "larger than all that may be kept"
    monkeypatch.setattr(thumbnails, "_MAX_FRAMES", 2)
    kept.keep(clip("f"))
    assert kept.get("f", 1) is not None and kept.get("f", 2) is None


def test_a_clip_is_reduced_before_it_waits_for_its_thumbnails() -> None:
    """So that a long queue holds small frames, not the clip's own."""
    whole = clip("a", size=(720, 1280))
    small = reduced(whole)
    assert small.pixels.base is None and small.pixels.nbytes < whole.pixels.nbytes / 20
    kept = Thumbnails()
    kept.keep(small)
    assert [grey(kept.get("a", frame)) for frame in range(4)] == [20, 40, 60, 80]
    assert Image.open(io.BytesIO(kept.get("a") or b"")).size == (160, 90)


async def test_the_engine_has_the_frames_that_the_model_was_shown(demo_engine: Any, clip_path: Path) -> None:
    (receipt,) = (await ask(demo_engine, chat(clip_path, "What happens?", max_tokens=2))).done.media
    async with asyncio.timeout(20):  # they are made beside the answer
        while demo_engine.thumbnail(receipt.sha256) is None:
            await asyncio.sleep(0.01)
    shown = [demo_engine.thumbnail(receipt.sha256, frame) for frame in range(len(receipt.frames))]
    assert len(set(shown)) == len(shown) > 1 and None not in shown
    assert demo_engine.thumbnail(receipt.sha256, len(shown)) is None
    assert demo_engine.thumbnail(receipt.sha256)
