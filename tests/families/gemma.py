"""Gemma: sliding windows, snapshots instead of blocks."""

from __future__ import annotations

from tests.families.shape import HIDDEN, Family, image_processor, text, vision

GEMMA3_MARKS = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
GEMMA4_MARKS = {
    "image_token": "<|image|>",
    "boi_token": "<|image>",
    "eoi_token": "<image|>",
    "audio_token": "<|audio|>",
    "boa_token": "<|audio>",
    "eoa_token": "<audio|>",
    "video_token": "<|video|>",
}

GEMMA: dict[str, Family] = {
    "gemma3": Family(
        config={
            "text_config": text(
                "gemma3_text",
                sliding_window=32,
                sliding_window_pattern=2,
                query_pre_attn_scalar=32,
                mm_tokens_per_image=16,
            ),
            "vision_config": vision("siglip_vision_model"),
            "image_token_index": "<image_soft_token>",
            "boi_token_index": "<start_of_image>",
            "eoi_token_index": "<end_of_image>",
            "hidden_size": HIDDEN,
            "mm_tokens_per_image": 16,
        },
        image="<start_of_image>",
        tokens=(*GEMMA3_MARKS.values(), "<bos>"),
        tokenizer=GEMMA3_MARKS,
        image_proc=image_processor("Gemma3ImageProcessor", size={"height": 112, "width": 112}, image_seq_length=16),
        processor={"image_seq_length": 16},
        embedding_scale=0.2,
    ),
    "gemma4": Family(
        config={
            "text_config": text(
                "gemma4_text",
                num_hidden_layers=4,
                global_head_dim=64,
                num_kv_shared_layers=2,
                hidden_size_per_layer_input=32,
                sliding_window=32,
                sliding_window_pattern=2,
            ),
            "vision_config": vision("gemma4_vision", num_key_value_heads=2, head_dim=32, global_head_dim=32)
            | {"position_embedding_size": 64, "patch_size": 16, "default_output_length": 70},
            "audio_config": {
                "hidden_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "output_proj_dims": 64,
                "subsampling_conv_channels": [16, 8],
                "use_clipped_linears": False,
            },
            "image_token_id": "<|image|>",
            "audio_token_id": "<|audio|>",
            "video_token_id": "<|video|>",
            "boi_token_id": "<|image>",
            "eoi_token_id": "<image|>",
            "boa_token_id": "<|audio>",
            "eoa_token_id": "<audio|>",
            "hidden_size": HIDDEN,
        },
        image="<|image|>",
        video="<|video|>",
        audio="<|audio|>",
        tokens=("<bos>", *GEMMA4_MARKS.values()),
        bos="<bos>",
        tokenizer=GEMMA4_MARKS | {"extra_special_tokens": GEMMA4_MARKS},
        processor={"image_processor": {"patch_size": 16, "max_soft_tokens": 16, "pooling_kernel_size": 3}},
    ),
}
