"""The families table: what each model_type can take and how it runs. One row each; pure data.

A model_type without a row is tried as a plain causal model that batches; text families need a row only if they differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Family:
    """native_video: the processor takes clips; else frames go in as labelled pictures.
    images_per_prompt: None is no limit of the model's own.
    audios_per_prompt: the same for sounds; 0 for a family that does not hear.
    max_sound_s: what its processor cuts off in silence; here a longer sound is refused.
    sounds_apart: mlx-vlm pads the sounds of a prompt to the longest and takes that padding for the beginning of the
    next sound; each is encoded in a pass of its own then.
    one_kind: mlx-vlm encodes only the pictures of a prompt that has pictures and clips, and loses the clips; they are
    encoded in a pass of their own then.
    packed: its vision tower takes patches of all media with one grid each, so features can be kept by picture and by
    pair of frames.
    no_padding: transformers' image processor refuses the padding argument that mlx-vlm passes to it.
    image_token: the placeholder of pictures where config.json does not name it: its text, or the id itself.
    marker: text that stands for a picture in the prompt without being its placeholder, so that no user may write it.
    expands: how the model itself makes one placeholder into many ("fixed": config's num_image_tokens; "tiles": a block
    for each tile, then as many of newlines), so that the prompt's ids must follow (engine.models.expand).
    whole_prompt: every token of the prompt sees every other, also those behind it: the prompt is computed in one pass,
    and nothing of it can serve another prompt.
    serial: rows decode one at a time, because the family's attention cannot take a batch's mask.
    refused: why this engine cannot run the family, in plain words; empty when it can.
    """

    native_video: bool = False
    images_per_prompt: int | None = None
    audios_per_prompt: int | None = 0
    max_sound_s: float | None = None
    sounds_apart: bool = False
    one_kind: bool = False
    packed: bool = False
    no_padding: bool = False
    image_token: str | int = ""
    marker: str = ""
    expands: Literal["", "fixed", "tiles"] = ""
    whole_prompt: bool = False
    serial: bool = False
    refused: str = ""


_QWEN = Family(native_video=True, packed=True)
_QWEN_ONE_KIND = Family(native_video=True, packed=True, one_kind=True)
_CROSS_ATTENTION = Family(refused="it reads pictures through cross-attention, which cannot join a shared batch")

FAMILIES: dict[str, Family] = {
    "qwen2_vl": _QWEN_ONE_KIND,
    "qwen2_5_vl": _QWEN_ONE_KIND,
    "qwen3_vl": _QWEN,
    "qwen3_vl_moe": _QWEN,
    "qwen3_5": _QWEN_ONE_KIND,
    "qwen3_5_moe": _QWEN_ONE_KIND,
    "gemma3": Family(),
    "gemma4": Family(native_video=True, audios_per_prompt=None, max_sound_s=30.0, sounds_apart=True),
    "idefics2": Family(),
    "idefics3": Family(),
    "smolvlm": Family(),
    "pixtral": Family(),
    "mistral3": Family(),
    "molmo": Family(images_per_prompt=1, image_token="<im_patch>"),
    "llava": Family(no_padding=True),
    "llava_next": Family(images_per_prompt=1, expands="tiles"),
    "llava_onevision": Family(),
    # Its attention has no mask at all, so a batch's padding would be read.
    "paligemma": Family(images_per_prompt=1, whole_prompt=True, serial=True),
    "deepseek_vl_v2": Family(),
    "multi_modality": Family(images_per_prompt=1, expands="fixed", marker="<image>"),
    "phi3_v": Family(images_per_prompt=1, image_token=-1),
    "mllama": _CROSS_ATTENTION,
    # Block-sparse attention that builds its own mask for one row.
    "phi3small": Family(serial=True),
    "florence2": Family(refused="it is an encoder-decoder model"),
}


GROUPED_SCORES = frozenset({"gemma2"})
"""Language models that compute attention scores by hand as (rows, kv_heads, group, queries, keys), one axis more than
a batch's mask has: without that axis they fail in a batch, or take another row's mask where the sizes happen to fit."""


def family(model_type: str) -> Family:
    """The row of a model_type, or the default row."""
    return FAMILIES.get(model_type, Family())
