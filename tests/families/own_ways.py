"""Families that mlx-vlm runs in ways of their own."""

from __future__ import annotations

from tests.families.pictures import CLIP_TOWER
from tests.families.shape import HIDDEN, MEAN, Family, deepseek, image_processor, text, vision

CLIP_PICTURES = {
    "size": {"shortest_edge": 112},
    "crop_size": {"height": 112, "width": 112},
    "do_resize": True,
    "do_center_crop": True,
}
LLAVA_PROCESSOR = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
PINPOINTS = [[112, 224], [224, 112]]
MOLMO_TOKENS = ("<im_patch>", "<im_start>", "<im_end>", "<im_col>", "<|image|>")
DEEPSEEK_BOS = "<｜begin▁of▁sentence｜>"
JANUS_TOKENS = ("<image_placeholder>", "<begin_of_image>", "<end_of_image>")

OWN_WAYS: dict[str, Family] = {
    "idefics2": Family(
        config={
            "text_config": text("mistral"),
            "vision_config": vision("idefics2"),
            "perceiver_config": {
                "model_type": "idefics2",
                "num_key_value_heads": 1,
                "resampler_depth": 1,
                "resampler_head_dim": 32,
                "resampler_n_heads": 2,
                "resampler_n_latents": 16,
            },
            "image_token_id": "<image>",
        },
        image="<image>",
        tokens=("<fake_token_around_image>", "<image>", "<end_of_utterance>"),
        image_proc=image_processor(
            "Idefics2ImageProcessor", size={"longest_edge": 112, "shortest_edge": 56}, do_image_splitting=False
        ),
        processor={"image_seq_len": 16},
    ),
    "llava_next": Family(
        config={
            "text_config": text("mistral"),
            "vision_config": CLIP_TOWER,
            "image_token_index": "<image>",
            "vision_feature_layer": -2,
            "image_grid_pinpoints": PINPOINTS,
        },
        image="<image>\n",
        tokens=("<image>",),
        image_proc=image_processor("LlavaNextImageProcessor", **CLIP_PICTURES, image_grid_pinpoints=PINPOINTS),
        processor=LLAVA_PROCESSOR,
        max_images=1,
    ),
    "molmo": Family(
        config={
            "text_config": {
                "d_model": HIDDEN,
                "n_heads": 2,
                "n_kv_heads": 1,
                "n_layers": 2,
                "mlp_hidden_size": 256,
                "additional_vocab_size": 128,
                "max_position_embeddings": 4096,
            },
            "vision_config": {
                "image_default_input_size": [336, 336],
                "image_emb_dim": 64,
                "image_num_heads": 2,
                "image_num_key_value_heads": 2,
                "image_num_layers": 10,
                "image_head_dim": 32,
                "image_mlp_dim": 128,
                "d_model": HIDDEN,
                "hidden_size": 128,
            },
        },
        image="",
        tokens=MOLMO_TOKENS,
        image_proc=image_processor("MolmoImageProcessor", max_crops=2),
        max_images=1,
    ),
    "deepseek_vl_v2": Family(
        config={
            "language_config": deepseek("deepseek_v2"),
            "vision_config": {
                "model_type": "vision",
                "layers": 2,
                "width": 64,
                "intermediate_size": 128,
                "num_attention_heads": 2,
                "image_size": 112,
                "patch_size": 14,
            },
            "projector_config": {
                "model_type": "mlp_projector",
                "projector_type": "downsample_mlp_gelu",
                "input_dim": 64,
                "n_embed": HIDDEN,
                "depth": 2,
                "mlp_ratio": 1,
                "downsample_ratio": 2,
            },
            "image_token_index": "<image>",
            "candidate_resolutions": [[112, 112]],
        },
        image="<image>",
        tokens=("<image>", "<|▁pad▁|>", "<|User|>", "<|Assistant|>", "<｜▁pad▁｜>", DEEPSEEK_BOS),
        bos=DEEPSEEK_BOS,
        processor={
            "candidate_resolutions": [[112, 112]],
            "patch_size": 14,
            "downsample_ratio": 2,
            "image_mean": MEAN,
            "image_std": MEAN,
            "image_token": "<image>",
            "pad_token": "<｜▁pad▁｜>",
        },
    ),
    "multi_modality": Family(
        config={
            "language_config": text("llama"),
            "vision_config": vision("vision", image_size=384, patch_size=16, params={}),
            "aligner_config": {
                "cls": "MlpProjector",
                "model_type": "aligner",
                "params": {"depth": 2, "input_dim": 64, "n_embed": HIDDEN, "projector_type": "mlp_gelu"},
            },
            "image_token_index": "<image_placeholder>",
            "num_image_tokens": 576,
        },
        image="<image>",
        tokens=JANUS_TOKENS,
        image_proc=image_processor("VLMImageProcessor", image_size=384, min_size=14),
        processor={"num_image_tokens": 576, "image_tag": "<image_placeholder>"},
        max_images=1,
    ),
    "llava_onevision": Family(
        config={
            "text_config": text("qwen2"),
            "vision_config": vision("siglip_vision_model"),
            "image_token_index": "<image>",
            "video_token_index": "<video>",
            "vision_feature_layer": -1,
            "vision_feature_select_strategy": "full",
            "image_grid_pinpoints": PINPOINTS,
        },
        image="<image>",
        tokens=("<image>", "<video>"),
        image_proc=image_processor(
            "LlavaOnevisionImageProcessor", size={"height": 112, "width": 112}, image_grid_pinpoints=PINPOINTS
        ),
        processor={"num_image_tokens": 64, "vision_feature_select_strategy": "full"},
    ),
}

INTERLEAVE = Family(
    config={
        "text_config": text("qwen2"),
        "vision_config": vision("siglip_vision_model"),
        "image_token_index": "<image>",
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
    },
    image="<image>\n",
    tokens=("<image>",),
    image_proc=image_processor("SiglipImageProcessor", size={"height": 112, "width": 112}),
    processor=LLAVA_PROCESSOR | {"vision_feature_select_strategy": "full", "num_additional_image_tokens": 0},
)
"""LLaVA-Interleave: model_type llava with another decoder and another tower."""
