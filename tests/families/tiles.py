"""Families that cut a large picture in tiles and add one of the whole: InternVL, LFM2-VL, Molmo 2. Mistral 3 and
Kimi-VL read it at its own size, in one piece."""

from __future__ import annotations

from tests.families.shape import HIDDEN, Family, deepseek, image_processor, text, vision

INTERN_TOKENS = ("<img>", "</img>", "<IMG_CONTEXT>")
MOLMO2_TOKENS = (
    *("<im_patch>", "<im_start>", "<low_res_im_start>", "<im_end>", "<im_low>", "<im_col>", "<|image|>"),
    *("<frame_start>", "<frame_end>"),
)
INTERN_TILES = {"max_dynamic_patch": 2, "min_dynamic_patch": 1, "use_thumbnail": True, "downsample_ratio": 0.5}
LFM_TILES = tuple(f"<|img_row_{row}_col_{col}|>" for row in range(1, 3) for col in range(1, 3))
LFM_MARKS = {
    "image_token": "<image>",
    "image_start_token": "<|image_start|>",
    "image_end_token": "<|image_end|>",
    "image_thumbnail": "<|img_thumbnail|>",
}

TILES: dict[str, Family] = {
    "internvl": Family(
        config={
            "text_config": text("qwen3"),
            "vision_config": vision("internvl_vision"),
            "image_token_id": "<IMG_CONTEXT>",
        }
        | INTERN_TILES,
        image="<IMG_CONTEXT>\n",
        tokens=INTERN_TOKENS,
        processor={"image_seq_length": 16, "processor_class": "InternVLProcessor"},
    ),
    "internvl_chat": Family(
        config={"text_config": text("qwen2"), "vision_config": vision("intern_vit_6b")} | INTERN_TILES,
        image="<image>\n",
        tokens=INTERN_TOKENS,
        processor={"num_image_token": 16},
    ),
    "lfm2_vl": Family(
        config={
            "text_config": {
                "model_type": "lfm2",
                "hidden_size": HIDDEN,
                "num_hidden_layers": 3,
                "intermediate_size": 128,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "max_position_embeddings": 4096,
                "rope_theta": 10000.0,
                "norm_eps": 1e-5,
                "conv_L_cache": 3,
                "conv_bias": False,
                "block_dim": HIDDEN,
                "block_ff_dim": 128,
                "block_multiple_of": 32,
                "block_ffn_dim_multiplier": 1.0,
                "block_auto_adjust_ff_dim": False,
                "layer_types": ["conv", "full_attention", "full_attention"],
            },
            "vision_config": vision("siglip2_vision_model", patch_size=16, num_patches=64),
            "image_token_id": "<image>",
            "projector_hidden_size": 64,
        },
        image="<image>",
        tokens=(*LFM_MARKS.values(), *LFM_TILES),
        tokenizer=LFM_MARKS | {"extra_special_tokens": LFM_MARKS},
        image_proc=image_processor(
            "Siglip2ImageProcessorFast",
            min_image_tokens=4,
            max_image_tokens=16,
            tile_size=64,
            encoder_patch_size=16,
            downsample_factor=2,
        ),
        embedding_scale=0.2,
    ),
    "mistral3": Family(
        config={
            "text_config": text("mistral", rope_parameters={"rope_theta": 10000.0}),
            "vision_config": vision("pixtral", head_dim=32, image_size=128, patch_size=16),
            "image_token_index": "[IMG]",
            "spatial_merge_size": 2,
        },
        image="[IMG]",
        tokens=("[IMG]", "[IMG_BREAK]", "[IMG_END]"),
        image_proc=image_processor("PixtralImageProcessor", size={"longest_edge": 128}, patch_size=16),
        processor={"patch_size": 16, "spatial_merge_size": 2},
    ),
    "kimi_vl": Family(
        config={
            "text_config": deepseek("deepseek_v3", n_group=1, topk_group=1),
            "vision_config": {
                "model_type": "moonvit",
                "depth": 2,
                "embed_dim": 64,
                "hidden_size": 64,
                "intermediate_size": 128,
                "num_heads": 2,
                "patch_size": 14,
                "init_pos_emb_height": 8,
                "init_pos_emb_width": 8,
            },
            "media_placeholder_token_id": "<|media_pad|>",
        },
        image="<|media_start|>image<|media_content|><|media_pad|><|media_end|>",
        tokens=("<|media_start|>", "<|media_content|>", "<|media_pad|>", "<|media_end|>", "<|im_assistant|>"),
        image_proc=image_processor("KimiVLImageProcessor", patch_size=14),
    ),
}

MOLMO2 = Family(
    config={
        "text_config": text("molmo2", additional_vocab_size=128, qkv_bias=False),
        "vision_config": {
            "vit_config": {
                "hidden_size": 64,
                "intermediate_size": 128,
                "num_hidden_layers": 3,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "head_dim": 32,
                "image_patch_size": 14,
                "image_num_pos": 729,
                "image_default_input_size": [378, 378],
            },
            "adapter_config": {
                "hidden_size": 64,
                "intermediate_size": 128,
                "text_hidden_size": HIDDEN,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "head_dim": 32,
                "vit_layers": [-1, -2],
            },
        },
        "image_start_token_id": "<im_start>",
        "low_res_image_start_token_id": "<low_res_im_start>",
        "image_end_token_id": "<im_end>",
        "image_low_res_id": "<im_low>",
        "image_patch_id": "<im_patch>",
        "image_col_id": "<im_col>",
        "frame_start_token_id": "<frame_start>",
        "frame_end_token_id": "<frame_end>",
    },
    image="<|image|>",
    tokens=MOLMO2_TOKENS,
    image_proc=image_processor("Molmo2ImageProcessor"),
)
"""mlx-vlm does not ask the checkpoint how large it reads pictures (378 pixels, up to 8 crops): some 400 tokens each."""
