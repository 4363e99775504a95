"""What the model's own processor makes of a picture or clip: mlx-vlm's code path, without the engine's media code.
Engine thread only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from engine.measure.selftest.fixtures import CLIP_FPS, DrawnMedium
from engine.models.registry import Loaded

PIXEL_WORDS = ("pixel", "grid", "sizes")
"""Parts of the names of arrays that describe pictures; other arrays depend on the text around them too."""

QUESTION = "What is this?"
Arrays = dict[str, list[np.ndarray]]


@dataclass(frozen=True)
class Reference:
    """tokens: placeholders in the prompt. seen_px: (width, height) of one picture or frame, (0, 0) where not known."""

    tokens: int
    seen_px: tuple[int, int]
    arrays: Arrays


def read(loaded: Loaded, medium: DrawnMedium, indices: Sequence[int]) -> Reference:
    """Run the processor on a picture, or on the frames of a clip at these indices."""
    from mlx_vlm.utils import prepare_inputs, should_add_special_tokens

    frames = [medium.frames[i] for i in indices] if medium.kind == "video" else list(medium.frames)
    native = medium.kind == "video" and loaded.card.native_video
    settings: dict[str, Any] = {"images": frames}
    if native:
        settings = _clip(loaded, frames, indices)
    inputs = prepare_inputs(
        loaded.processor,
        prompts=_text(loaded, "video" if native else "image", 1 if native else len(frames)),
        image_token_index=getattr(loaded.adapter.model.config, "image_token_index", None),
        add_special_tokens=should_add_special_tokens(loaded.card.model_type, loaded.processor),
        **settings,
    )
    ids = np.array(inputs["input_ids"]).reshape(-1).tolist()
    placeholders = loaded.placeholder_ids()
    placeholder = placeholders.get("video" if native else "image", placeholders.get("image"))
    return Reference(ids.count(placeholder), _seen_px(loaded, inputs), arrays(inputs))


def arrays(inputs: Mapping[str, Any]) -> Arrays:
    """The processor's picture arrays as numpy, a list for each name. Some families have an array for each picture."""
    return {
        name: [_numpy(array) for array in (value if isinstance(value, list) else [value])]
        for name, value in inputs.items()
        if value is not None and any(word in name for word in PIXEL_WORDS)
    }


def _numpy(array: Any) -> np.ndarray:
    import mlx.core as mx

    if isinstance(array, mx.array) and array.dtype == mx.bfloat16:  # which numpy does not know
        array = array.astype(mx.float32)
    return np.array(array)


def _clip(loaded: Loaded, frames: Sequence[Image.Image], indices: Sequence[int]) -> dict[str, Any]:
    pixels = np.stack([np.asarray(frame) for frame in frames]).transpose(0, 3, 1, 2)
    facts = {"total_num_frames": len(indices), "fps": CLIP_FPS, "frames_indices": list(indices)}
    return {"videos": [pixels], "video_metadata": [{**facts, "duration": len(indices) / CLIP_FPS}]}


def _text(loaded: Loaded, kind: str, count: int) -> str:
    """A prompt with `count` placeholders, by the chat template, or by mlx-vlm where the template has no such part."""
    from mlx_vlm.prompt_utils import apply_chat_template

    template = getattr(loaded.tokenizer, "chat_template", None)
    if isinstance(template, str) and (f"'{kind}'" in template or f'"{kind}"' in template):
        content = [*({"type": kind} for _ in range(count)), {"type": "text", "text": QUESTION, "content": QUESTION}]
        messages = [{"role": "user", "content": content}]
        return str(loaded.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    return str(apply_chat_template(loaded.processor, loaded.adapter.model.config, QUESTION, num_images=count))


def _seen_px(loaded: Loaded, inputs: Mapping[str, Any]) -> tuple[int, int]:
    for name in ("image_grid_thw", "video_grid_thw"):
        if inputs.get(name) is not None:
            _, height, width = np.array(inputs[name]).reshape(-1, 3)[0].tolist()
            patch = int((loaded.config.get("vision_config") or {}).get("patch_size", 14))
            return (width * patch, height * patch)
    pixels = inputs.get("pixel_values")
    shape: tuple[int, ...] = getattr(pixels[0] if isinstance(pixels, list) else pixels, "shape", ())
    return (int(shape[-1]), int(shape[-2])) if len(shape) >= 3 else (0, 0)
