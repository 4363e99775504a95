"""Receipts: what happened to each medium of a prompt, from its place there and what the vision tower did. No MLX call.

Made once, when somebody is to read them; what the engine thread needs to know of a medium meanwhile is PlacedMedia.
"""

from __future__ import annotations

from engine.models.embeddings import Encoding
from engine.models.vision_tower import Use
from engine.types import FeatureUse, MediaReceipt
from engine.types.prompt import PlacedMedia, Prompt

_REUSED = Use(FeatureUse())
"""Of a medium whose KV was there: nothing was asked of the feature store or the vision tower."""


def receipts(prompt: Prompt, first: int = 0, encoding: Encoding | None = None) -> tuple[MediaReceipt, ...]:
    """One per medium, in the prompt's order. first: tokens whose KV was reused; encoding: what was done for the rest.

    The processor reads all media of a prompt together: its milliseconds are shared by pixels.
    """
    num_pixels = sum(_num_pixels(placed) for placed in prompt.media)
    return tuple(
        _receipt(placed, use, prompt.processor_ms * _num_pixels(placed) / num_pixels)
        for placed, use in uses(prompt, first, encoding)
    )


def _receipt(placed: PlacedMedia, use: Use, resize_ms: float) -> MediaReceipt:
    medium = placed.media
    return MediaReceipt(
        kind=medium.kind,
        num_bytes=medium.num_bytes,
        decoded_px=medium.decoded_px,
        seen_px=placed.seen_px,
        tokens=placed.tokens,
        sha256=medium.sha256,
        frames=medium.frames,
        duration_s=medium.duration_s,
        fetch_ms=medium.fetch_ms,
        decode_ms=medium.decode_ms,
        notes=medium.notes,
        crop=medium.crop,
        param=placed.part.param,
        resize_ms=resize_ms,
        encode_ms=use.ms,
        features=use.features,
    )


def _num_pixels(placed: PlacedMedia) -> int:
    return placed.media.pixels.size or 1


def uses(prompt: Prompt, first: int, encoding: Encoding | None) -> list[tuple[PlacedMedia, Use]]:
    """Each medium with what it took from the feature store and of the vision tower's time.

    A Use with zeros where its KV was reused; families without a feature store share the milliseconds by tokens.
    """
    if encoding is None:
        return [(placed, Use()) for placed in prompt.media]
    if encoding.uses is None:
        encoded_tokens = sum(placed.tokens for placed in prompt.media if not placed.ends_by(first))
        return [
            (placed, Use(ms=0.0 if placed.ends_by(first) else encoding.ms * placed.tokens / encoded_tokens))
            for placed in prompt.media
        ]
    by_place = _stored_uses(prompt, first, encoding.uses)
    return [(placed, by_place.get(i, _REUSED)) for i, placed in enumerate(prompt.media)]


def _stored_uses(prompt: Prompt, first: int, tower_uses: tuple[Use, ...]) -> dict[int, Use]:
    """What the tower noted, by the medium's place. It is asked for all pictures, then for all clips; for none that is
    reused, unless the inputs could not be cut behind those."""
    is_cut = len(tower_uses) < len(prompt.media)
    encoded = [i for i, placed in enumerate(prompt.media) if not (is_cut and placed.ends_by(first))]
    encoded.sort(key=lambda i: prompt.media[i].media.kind != "image")
    return dict(zip(encoded, tower_uses, strict=False))
