"""GLM-4V and GLM-4.6V: pictures at their own size, M-RoPE positions."""

from __future__ import annotations

from typing import Any

from tests.families.shape import HIDDEN, Family, image_processor, text

GLM_MARKS = (
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
    "<|image|>",
    "<|video|>",
)
GLM_IDS = {
    "image_token_id": "<|image|>",
    "image_token_index": "<|image|>",
    "video_token_id": "<|video|>",
    "video_token_index": "<|video|>",
    "vision_start_token_id": "<|begin_of_image|>",
    "vision_end_token_id": "<|end_of_image|>",
}


def glm_tower(model_type: str, **changes: Any) -> dict[str, Any]:
    """A small picture tower in patches of 14 pixels."""
    sizes = {
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 2,
        "patch_size": 14,
        "image_size": 112,
        "out_hidden_size": HIDDEN,
    }
    return {"model_type": model_type} | sizes | changes


def glm(decoder: dict[str, Any], tower: str, **changes: Any) -> Family:
    """Between 4 and 16 tokens per picture."""
    token_px = (2 * 14) ** 2
    return Family(
        config={
            "text_config": decoder,
            "vision_config": glm_tower(tower, **changes),
        }
        | GLM_IDS,
        image="<|begin_of_image|><|image|><|end_of_image|>",
        tokens=(*GLM_MARKS, "<|begin_of_box|>", "<|end_of_box|>"),
        image_proc=image_processor(
            "Glm4vImageProcessor",
            size={"shortest_edge": 2 * 4 * token_px, "longest_edge": 2 * 16 * token_px},
            patch_size=14,
            temporal_patch_size=2,
            merge_size=2,
        ),
    )


GLM_ROPE = {"type": "default", "rope_type": "default", "mrope_section": [2, 3, 3]}
GLM: dict[str, Family] = {
    "glm4v": glm(text("glm4v_text", rope_scaling=GLM_ROPE, partial_rotary_factor=0.5), "glm4v_vision"),
    "glm4v_moe": glm(
        text(
            "glm4v_moe_text",
            rope_scaling=GLM_ROPE,
            partial_rotary_factor=0.5,
            moe_intermediate_size=64,
            norm_topk_prob=True,
            n_group=1,
            topk_group=1,
            n_shared_experts=1,
            n_routed_experts=4,
            routed_scaling_factor=1.0,
            num_experts_per_tok=2,
            first_k_dense_replace=1,
            use_qk_norm=False,
            attention_bias=True,
            tie_word_embeddings=False,
        ),
        "glm4v_moe_vision",
    ),
}
