"""What a model's config.json says of it, for what is loaded and for what lies on the disk alike. Pure; no MLX."""

from __future__ import annotations

from typing import Any

from engine.models.families import Family
from engine.models.json_files import part, whole

DEFAULT_CONTEXT = 4096
"""Where config.json names none."""


def answering_part(config: dict[str, Any]) -> dict[str, Any]:
    """The part that sees, hears and answers, with what stands beside it: of Qwen3-Omni, its thinker."""
    return part(config, "thinker_config") | config


def text_part(config: dict[str, Any]) -> dict[str, Any]:
    """The part that describes the language model, with what stands beside it as a default."""
    for name in ("text_config", "llm_config", "language_config"):
        if inner := part(config, name):
            return config | inner
    return config


def context_tokens(config: dict[str, Any]) -> int:
    """The model's context."""
    return whole(text_part(config), "max_position_embeddings") or DEFAULT_CONTEXT


def has_ears(config: dict[str, Any], row: Family) -> bool:
    """Whether a checkpoint of this family has what hears: some come without it (gemma4's larger sizes), or say so."""
    has_tower = bool(config.get("audio_config") or config.get("audio_processor"))
    return row.audios_per_prompt != 0 and has_tower and config.get("init_audio") is not False


def why_deaf(config: dict[str, Any]) -> str:
    """Why a checkpoint of a family that hears does not; "" where it does. Phi-4-Multimodal with an adapter for sounds:
    mlx-vlm changes all its weights when it is given a sound, and the other requests of a batch and what is kept of
    prompts need the old ones; what mlx-vlm has converted names the adapter and lacks it."""
    if not config.get("speech_lora"):
        return ""
    return "its adapter for sounds would take the place of the one for pictures in all requests at once"
