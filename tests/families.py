"""What each tiny model is: one `Family` per model type, as data. Strings in `<...>` or `[...]` that name a token of the
tokenizer are replaced by its id when the checkpoint is written (see tests/tiny.py).

All are random: for identity, memory and failure tests, never for the sense of an answer. Widths are multiples of 32,
so that every family can be quantized to 4 bits in groups of 32; pixel budgets give 9 to 70 tokens per picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

HIDDEN = 64
CHAT_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
QWEN_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
MEAN = [0.5, 0.5, 0.5]


@dataclass(frozen=True)
class Family:
    """One model type in checkpoint layout.

    config        config.json without vocab_size, eos and model_type
    image, video, audio  what the chat template writes for a medium; None: this family does not take it
    tokens        special tokens added to the shared tokenizer
    image_proc, video_proc, processor   the three processor files, None: not written
    tokenizer     keys added to tokenizer_config.json
    embedding_scale   factor on the token embeddings; below 1 where the model scales them up itself, or it would echo
    max_images    pictures per prompt that the installed processor can take (None: no limit)
    """

    config: dict[str, Any]
    image: str | None = None
    video: str | None = None
    audio: str | None = None
    tokens: tuple[str, ...] = ()
    image_proc: dict[str, Any] | None = None
    video_proc: dict[str, Any] | None = None
    processor: dict[str, Any] | None = None
    tokenizer: dict[str, Any] = field(default_factory=dict)
    bos: str | None = None
    embedding_scale: float = 1.0
    max_images: int | None = None

    @property
    def vision(self) -> bool:
        return self.image is not None


def text(model_type: str | None = None, **changes: Any) -> dict[str, Any]:
    """A small decoder: 2 layers, 2 heads of 32, one KV head."""
    sizes = {
        "hidden_size": HIDDEN,
        "num_hidden_layers": 2,
        "intermediate_size": 128,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 4096,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
    }
    return ({"model_type": model_type} if model_type else {}) | sizes | changes


def vision(model_type: str, **changes: Any) -> dict[str, Any]:
    """A small picture tower of 112 x 112 pixels in patches of 14."""
    sizes = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 112,
        "patch_size": 14,
    }
    return {"model_type": model_type} | sizes | changes


def image_processor(kind: str, **settings: Any) -> dict[str, Any]:
    return {"image_processor_type": kind, "image_mean": MEAN, "image_std": MEAN} | settings


# -- Qwen: pictures at their own size, M-RoPE positions, clips in pairs of frames --------------------------------------

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


MROPE = {"type": "mrope", "mrope_section": [4, 6, 6]}
FAMILIES: dict[str, Family] = {
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
            "vision_config": {
                "model_type": "qwen3_vl",
                "depth": 2,
                "hidden_size": 64,
                "intermediate_size": 128,
                "out_hidden_size": HIDDEN,
                "num_heads": 2,
                "patch_size": 16,
                "spatial_merge_size": 2,
                "temporal_patch_size": 2,
                "in_channels": 3,
                "num_position_embeddings": 64,
                "deepstack_visual_indexes": [0],
            },
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
            "vision_config": {
                "model_type": "qwen3_5",
                "depth": 2,
                "hidden_size": 64,
                "intermediate_size": 128,
                "out_hidden_size": HIDDEN,
                "num_heads": 2,
                "patch_size": 16,
                "spatial_merge_size": 2,
                "temporal_patch_size": 2,
                "num_position_embeddings": 64,
                "deepstack_visual_indexes": [],
            },
        },
        patch_px=16,
        kind="Qwen2VLImageProcessorFast",
    ),
}

# -- pictures at one size, or cut in tiles -----------------------------------------------------------------------------

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


FAMILIES |= {
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

# -- families that mlx-vlm runs in ways of their own -------------------------------------------------------------------

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

FAMILIES |= {
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
            "language_config": text(
                "deepseek_v2",
                num_key_value_heads=2,
                moe_intermediate_size=64,
                n_shared_experts=1,
                n_routed_experts=4,
                num_experts_per_tok=2,
                kv_lora_rank=32,
                q_lora_rank=None,
                qk_rope_head_dim=16,
                v_head_dim=32,
                qk_nope_head_dim=32,
                first_k_dense_replace=1,
            ),
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

PHI3_V = Family(
    config=text(num_key_value_heads=2)
    | {
        "original_max_position_embeddings": 4096,
        "rope_scaling": {"type": "su", "long_factor": [1.0] * 16, "short_factor": [1.0] * 16},
        "vision_config": vision("phi3_v", image_size=336, image_dim_out=64),
        "embd_layer": {},
    },
    image="<|image_1|>\n",
    tokens=("<|end|>", "<|image|>"),
    image_proc=image_processor("Phi3VImageProcessor", num_crops=1, num_img_tokens=144),
)
"""Phi-3-Vision, and 3.5: mlx-vlm fixes the size of its vision tower, so that even the tiny one has 306 M parameters."""

# -- Gemma: sliding windows, snapshots instead of blocks ---------------------------------------------------------------

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

FAMILIES |= {
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

# -- Qwen3-Omni: a thinker that sees and hears; what it would say aloud is left out ------------------------------------

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
SEES = FAMILIES["qwen3_vl"]

FAMILIES |= {
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

# -- text --------------------------------------------------------------------------------------------------------------

FAMILIES |= {
    "llama": Family(config=text()),
    "mistral": Family(config=text()),
    "qwen2": Family(config=text()),
    "qwen3": Family(config=text()),
    "gemma2": Family(config=text(query_pre_attn_scalar=32), embedding_scale=0.2),
    "phi3": Family(config=text()),
}

VISION = tuple(name for name, family in FAMILIES.items() if family.vision)
TEXT = tuple(name for name, family in FAMILIES.items() if not family.vision)
SLOW = {"phi3_v": PHI3_V}
"""Tiny models that are not tiny: tests of them are marked slow."""
