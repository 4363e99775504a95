"""Pictures at one size, or cut in tiles."""

from __future__ import annotations

from typing import Any

from tests.families.shape import HIDDEN, Family, image_processor, text, vision

CLIP_TOWER = vision("clip_vision_model", num_hidden_layers=3, projection_dim=64, vocab_size=1000)
TILE_TOKENS = tuple(f"<row_{row}_col_{col}>" for row in range(1, 5) for col in range(1, 5))


def idefics(tower: str, decoder: dict[str, Any], kind: str) -> Family:
    """Idefics3 and SmolVLM: 16 tokens per tile of 112 pixels, and one tile of the whole."""
    return Family(
        config={
            "text_config": decoder,
            "vision_config": vision(tower),
            "image_token_id": "<image>",
            "scale_factor": 2,
        },
        image="<image>",
        tokens=("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", *TILE_TOKENS),
        image_proc=image_processor(
            kind, size={"longest_edge": 112}, max_image_size={"longest_edge": 112}, do_image_splitting=True
        ),
        processor={"image_seq_len": 16},
    )


PICTURES: dict[str, Family] = {
    "idefics3": idefics("idefics3", text("llama"), "Idefics3ImageProcessor"),
    "smolvlm": idefics("idefics3", text("llama"), "SmolVLMImageProcessor"),
    "pixtral": Family(
        config={
            "text_config": text("mistral"),
            "vision_config": vision("pixtral", head_dim=32, image_size=64, patch_size=16),
            "image_token_index": "[IMG]",
        },
        image="[IMG]",
        tokens=("[IMG]", "[IMG_BREAK]", "[IMG_END]"),
        image_proc=image_processor("PixtralImageProcessor", size={"longest_edge": 64}, patch_size=16),
        processor={"patch_size": 16},
    ),
    "llava": Family(
        config={
            "text_config": text("llama"),
            "vision_config": CLIP_TOWER,
            "image_token_index": "<image>",
            "vision_feature_layer": -2,
        },
        image="<image>\n",
        tokens=("<image>",),
        image_proc=image_processor(
            "CLIPImageProcessor",
            size={"shortest_edge": 112},
            crop_size={"height": 112, "width": 112},
            do_resize=True,
            do_center_crop=True,
        ),
        processor={
            "patch_size": 14,
            "vision_feature_select_strategy": "default",
            "num_additional_image_tokens": 1,
        },
    ),
    "paligemma": Family(
        config={
            "text_config": text("gemma", num_image_tokens=64),
            "vision_config": vision("siglip_vision_model", projection_dim=HIDDEN),
            "image_token_index": "<image>",
            "hidden_size": HIDDEN,
            "projection_dim": HIDDEN,
        },
        image="<image>",
        tokens=("<image>", "<bos>"),
        bos="<bos>",
        image_proc=image_processor("SiglipImageProcessor", size={"height": 112, "width": 112}, image_seq_length=64),
        max_images=1,
    ),
}
