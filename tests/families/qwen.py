"""Qwen: pictures at their own size, M-RoPE positions, clips in pairs of frames; and Qwen3-Omni, a thinker that sees and
hears (what it would say aloud is left out)."""

from __future__ import annotations

from typing import Any

from tests.families.shape import HIDDEN, MEAN, Family, image_processor, text

QWEN_IDS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
    "vision_token_id": "<|vision_pad|>",
}


def qwen(config: dict[str, Any], patch_px: int, kind: str = "Qwen2VLImageProcessor") -> Family:
    """A Qwen vision family: between 4 and 16 tokens per picture, at most 32 per clip."""
    token_px = (2 * patch_px) ** 2
    common = {"patch_size": patch_px, "temporal_patch_size": 2, "merge_size": 2}
    pixels = {"min_pixels": 4 * token_px, "max_pixels": 16 * token_px}
    clip = {"shortest_edge": 8 * token_px, "longest_edge": 64 * token_px}
    return Family(
        config=config | QWEN_IDS,
        image="<|vision_start|><|image_pad|><|vision_end|>",
        video="<|vision_start|><|video_pad|><|vision_end|>",
        image_proc=image_processor(kind, **common, **pixels),
        video_proc={
            "video_processor_type": "Qwen3VLVideoProcessor",
            "size": clip,
            "image_mean": MEAN,
            "image_std": MEAN,
        }
        | common,
    )


def qwen3_tower(model_type: str, **changes: Any) -> dict[str, Any]:
    """A small picture tower in patches of 16 pixels."""
    sizes = {
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "out_hidden_size": HIDDEN,
        "num_heads": 2,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "num_position_embeddings": 64,
    }
    return {"model_type": model_type} | sizes | changes


MROPE = {"type": "mrope", "mrope_section": [4, 6, 6]}
QWEN: dict[str, Family] = {
    "qwen2_vl": qwen(
        text(rope_scaling=MROPE)
        | {
            "vision_config": {
                "model_type": "qwen2_vl",
                "depth": 2,
                "embed_dim": 64,
                "hidden_size": HIDDEN,
                "num_heads": 2,
            }
        },
        patch_px=14,
    ),
    "qwen2_5_vl": qwen(
        text(rope_scaling=MROPE)
        | {
            "vision_config": {
                "model_type": "qwen2_5_vl",
                "depth": 2,
                "hidden_size": 64,
                "intermediate_size": 128,
                "out_hidden_size": HIDDEN,
                "num_heads": 2,
                "fullatt_block_indexes": [1],
            }
        },
        patch_px=14,
    ),
    "qwen3_vl": qwen(
        {
            "text_config": text(
                "qwen3_vl_text",
                num_hidden_layers=3,
                rope_scaling={
                    "type": "default",
                    "rope_type": "default",
                    "mrope_section": [6, 5, 5],
                    "mrope_interleaved": True,
                },
            ),
            "vision_config": qwen3_tower("qwen3_vl", in_channels=3, deepstack_visual_indexes=[0]),
            "tie_word_embeddings": True,
        },
        patch_px=16,
        kind="Qwen2VLImageProcessorFast",
    ),
    "qwen3_5": qwen(
        {
            "text_config": text(
                "qwen3_5_text",
                num_hidden_layers=4,
                full_attention_interval=2,
                linear_num_value_heads=4,
                linear_num_key_heads=2,
                linear_key_head_dim=32,
                linear_value_head_dim=32,
                linear_conv_kernel_dim=4,
                rope_parameters={
                    "type": "default",
                    "mrope_section": [2, 1, 1],
                    "rope_theta": 100000,
                    "partial_rotary_factor": 0.25,
                },
            ),
            "vision_config": qwen3_tower("qwen3_5", deepstack_visual_indexes=[]),
        },
        patch_px=16,
        kind="Qwen2VLImageProcessorFast",
    ),
}

OMNI_MARKS = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "audio_token": "<|audio_pad|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
    "audio_bos_token": "<|audio_start|>",
    "audio_eos_token": "<|audio_end|>",
}
OMNI_TEXT = text(
    "qwen3_omni_moe_text_encoder",
    num_experts=4,
    num_experts_per_tok=2,
    decoder_sparse_step=1,
    mlp_only_layers=[],
    moe_intermediate_size=64,
    rope_scaling={
        "type": "default",
        "rope_type": "default",
        "mrope_section": [6, 5, 5],
        "mrope_interleaved": True,
    },
    tie_word_embeddings=False,
)
WHISPER = {
    "feature_extractor_type": "WhisperFeatureExtractor",
    "feature_size": 128,
    "sampling_rate": 16_000,
    "hop_length": 160,
    "n_fft": 400,
    "chunk_length": 300,
    "return_attention_mask": True,
}
SEES = QWEN["qwen3_vl"]

QWEN |= {
    "qwen3_omni_moe": Family(
        config={
            "enable_audio_output": False,
            "thinker_config": {
                "text_config": OMNI_TEXT,
                "vision_config": SEES.config["vision_config"] | {"model_type": "qwen3_omni_moe_vision_encoder"},
                "audio_config": {
                    "d_model": 64,
                    "encoder_layers": 2,
                    "encoder_attention_heads": 2,
                    "encoder_ffn_dim": 128,
                    "num_hidden_layers": 2,
                    "output_dim": HIDDEN,
                    "downsample_hidden_size": 16,
                },
                **{name: token for name, token in QWEN_IDS.items() if name != "vision_token_id"},
                "audio_token_id": "<|audio_pad|>",
                "audio_start_token_id": "<|audio_start|>",
                "audio_end_token_id": "<|audio_end|>",
            },
            "talker_config": {"text_config": OMNI_TEXT},
        },
        image=SEES.image,
        video=SEES.video,
        audio="<|audio_start|><|audio_pad|><|audio_end|>",
        tokens=("<|audio_pad|>", "<|audio_start|>", "<|audio_end|>"),
        tokenizer=OMNI_MARKS | {"extra_special_tokens": OMNI_MARKS},
        image_proc=(SEES.image_proc or {}) | WHISPER,
        video_proc=SEES.video_proc,
    ),
}

# -- Qwen3-VL MoE: the same with experts -------------------------------------------------------------------------------

QWEN["qwen3_vl_moe"] = qwen(
    {
        "text_config": OMNI_TEXT | {"model_type": "qwen3_vl_moe_text"},
        "vision_config": SEES.config["vision_config"] | {"model_type": "qwen3_vl_moe"},
        "tie_word_embeddings": False,
    },
    patch_px=16,
    kind="Qwen2VLImageProcessorFast",
)
