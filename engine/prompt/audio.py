"""The sounds of a request as its family's processor wants them: its rate, whole tokens, nothing cut off in silence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.media.medium import bad_media
from engine.models.registry import Loaded
from engine.types import Part
from engine.types.media import Media, Samples

DEFAULT_HZ = 16_000

ARRAYS = frozenset(
    {
        *("input_features", "input_features_mask", "feature_attention_mask"),
        *("input_audio_embeds", "audio_embed_sizes", "audio_attention_mask"),  # Phi-4-Multimodal
        *("audio_features", "audio_feature_lens", "audio_bounds"),  # MiniCPM-o
    }
)
"""What processors call the arrays of sounds."""


def check_sounds(loaded: Loaded, parts: Sequence[Part], media: Sequence[Media]) -> None:
    """Raise BadMedia for a sound of which the processor would lose the end, or all. parts, media: one each per
    medium."""
    limits = (loaded.family.max_sound_s, getattr(_extractor(loaded), "chunk_length", None))
    max_s = min((float(limit) for limit in limits if limit), default=None)
    min_s = loaded.family.min_sound_s
    for part, medium in zip(parts, media, strict=True):
        if medium.kind == "audio" and medium.duration_s < min_s:
            why = f"the sound lasts {medium.duration_s:.3f} s; {loaded.card.id} hears nothing of less than {min_s:g} s"
            raise bad_media(part, why)
        if medium.kind == "audio" and max_s is not None and medium.duration_s > max_s:
            why = f"the sound lasts {medium.duration_s:.1f} s; {loaded.card.id} hears at most {max_s:g} s"
            raise bad_media(part, f"{why}, so send a shorter piece")


def sounds(loaded: Loaded, media: Sequence[Media]) -> list[Samples]:
    """Each sound as (N,) float32 at the processor's rate, with silence up to a whole token.

    Without that silence gemma4's processor counts one token more than its tower has features, and mlx-vlm fills it with
    the first feature again.
    """
    if not any(medium.kind == "audio" for medium in media):
        return []
    from mlx_audio.resample import resample_audio_array  # brings scipy, which takes seconds to import

    hz = int(getattr(_extractor(loaded), "sampling_rate", DEFAULT_HZ))
    token_samples = hz * int(getattr(loaded.processor, "audio_ms_per_token", 1)) // 1000
    resampled = [resample_audio_array(m.samples, m.sample_hz, hz) for m in media if m.kind == "audio"]
    return [_whole_tokens(samples, token_samples) for samples in resampled]


def without_sounds(inputs: dict[str, Any]) -> dict[str, Any]:
    """A processor's arrays without those of sounds."""
    return {name: value for name, value in inputs.items() if name not in ARRAYS}


def _extractor(loaded: Loaded) -> object:
    return getattr(loaded.processor, "feature_extractor", None)


def _whole_tokens(samples: Samples, token_samples: int) -> Samples:
    return np.pad(samples, (0, -len(samples) % token_samples))
