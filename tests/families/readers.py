"""Readers of documents: PaddleOCR-VL, GLM-OCR, dots.ocr."""

from __future__ import annotations

from tests.families.glm import GLM_IDS, GLM_MARKS, glm_tower
from tests.families.shape import HIDDEN, Family, image_processor, text, vision

PADDLE_TOKENS = ("<|IMAGE_PLACEHOLDER|>", "<|IMAGE_START|>", "<|IMAGE_END|>", "<|VIDEO_PLACEHOLDER|>")
DOTS_TOKENS = ("<|img|>", "<|imgpad|>", "<|endofimg|>")
READ_PX = {"min_pixels": 4 * 28 * 28, "max_pixels": 16 * 28 * 28}
OCR_ROPE = {"rope_type": "default", "mrope_section": [4, 6, 6], "partial_rotary_factor": 1.0, "rope_theta": 10000}

READERS: dict[str, Family] = {
    # Its projector gives 1024 numbers per token, whatever the config says; so this one is not quite as tiny.
    "paddleocr_vl": Family(
        config=text(
            hidden_size=1024,
            num_hidden_layers=2,
            intermediate_size=64,
            use_bias=False,
            tie_word_embeddings=False,
            rope_scaling={"rope_type": "default", "type": "default", "mrope_section": [4, 6, 6]},
        )
        | {
            "vision_config": vision("paddleocr_vl"),
            "image_token_id": "<|IMAGE_PLACEHOLDER|>",
            "video_token_id": "<|VIDEO_PLACEHOLDER|>",
            "vision_start_token_id": "<|IMAGE_START|>",
            "vision_end_token_id": "<|IMAGE_END|>",
        },
        image="<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>",
        tokens=PADDLE_TOKENS,
        image_proc=image_processor("PaddleOCRVLImageProcessor", patch_size=14, temporal_patch_size=1, merge_size=2)
        | READ_PX,
        max_images=1,
    ),
    "glm_ocr": Family(
        config={
            "text_config": {
                k: v for k, v in text("glm_ocr_text", rope_parameters=OCR_ROPE).items() if k != "rope_theta"
            },
            "vision_config": glm_tower("glm_ocr_vision"),
        }
        | {name: token for name, token in GLM_IDS.items() if name.endswith("_id")}
        | {"image_start_token_id": "<|begin_of_image|>", "image_end_token_id": "<|end_of_image|>"},
        image="<|begin_of_image|><|image|><|end_of_image|>",
        tokens=GLM_MARKS,
        image_proc=image_processor(
            "Glm46VImageProcessor",
            size={"shortest_edge": 2 * 4 * 28 * 28, "longest_edge": 2 * 16 * 28 * 28},
            patch_size=14,
            temporal_patch_size=2,
            merge_size=2,
        ),
    ),
    "dots_ocr": Family(
        config=text(attention_bias=True, tie_word_embeddings=False)
        | {
            "vision_config": {
                "model_type": "dots_vit",
                "embed_dim": 64,
                "hidden_size": HIDDEN,
                "intermediate_size": 128,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "patch_size": 14,
            },
            "image_token_id": "<|imgpad|>",
        },
        image="<|img|><|imgpad|><|endofimg|>",
        tokens=DOTS_TOKENS,
        tokenizer={"image_token": "<|imgpad|>", "extra_special_tokens": {"image_token": "<|imgpad|>"}},
        image_proc=image_processor("Qwen2VLImageProcessor", patch_size=14, temporal_patch_size=1, merge_size=2)
        | READ_PX,
    ),
}
