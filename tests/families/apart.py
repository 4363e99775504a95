"""Families with tests of their own: mlx-vlm fixes the size of their towers or of the pictures that they read, so that
even a tiny one has hundreds of tokens for each picture, and the tests over all families would take minutes."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from tests.families.gemma import GEMMA
from tests.families.own_ways import DEEPSEEK_BOS
from tests.families.qwen import QWEN
from tests.families.shape import HIDDEN, MEAN, Family, image_processor, text, vision
from tests.families.tiles import MOLMO2

CLIP_WIDTH = 1024
"""Of Phi-3-Vision's tower: what comes behind it counts on that."""

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
    fixed={
        "mlx_vlm.models.phi3_v.vision.VisionModel.CLIP_VIT_LARGE_PATCH14_336_CONFIG": SimpleNamespace(
            model_type="phi3_v",
            hidden_size=CLIP_WIDTH,
            image_size=336,
            intermediate_size=32,
            layer_norm_eps=1e-5,
            num_attention_heads=16,
            num_channels=3,
            num_hidden_layers=2,
            patch_size=14,
        )
    },
)

SAM = SimpleNamespace(
    image_size=1024, width=32, layers=2, heads=1, patch_size=16, window_size=14, global_attn_indexes=()
)
"""The first tower of DeepSeek-OCR. It reads every picture as one of 1024 pixels, and tiles of 640 or 768."""


def _qwen2_encoder(**sizes: Any) -> Any:
    from mlx_vlm.models.deepseekocr_2.config import Qwen2EncoderConfig

    return Qwen2EncoderConfig(**sizes | {"layers": 2, "intermediate_size": 32})


def deepseek_ocr(tower: dict[str, Any], fixed: dict[str, Any]) -> Family:
    """The first version, or the second: they differ in their second tower."""
    width = tower["hidden_size"]
    input_dim = 2 * width if "layers" in tower else width
    return Family(
        config={
            "language_config": text(
                "deepseek_v2",
                num_key_value_heads=2,
                moe_intermediate_size=64,
                n_shared_experts=1,
                n_routed_experts=4,
                num_experts_per_tok=2,
                first_k_dense_replace=1,
                qk_nope_head_dim=0,
                qk_rope_head_dim=0,
                v_head_dim=0,
                q_lora_rank=None,
                kv_lora_rank=None,
            ),
            "vision_config": {"model_type": "vision"} | tower,
            "projector_config": {"projector_type": "linear", "input_dim": input_dim, "n_embed": HIDDEN},
            "image_token_index": "<image>",
            "candidate_resolutions": [[1024, 1024]],
        },
        image="<image>\n",
        tokens=("<image>", "<|▁pad▁|>", "<|User|>", "<|Assistant|>", "<｜▁pad▁｜>", DEEPSEEK_BOS),
        bos=DEEPSEEK_BOS,
        processor={
            "candidate_resolutions": [[1024, 1024]],
            "patch_size": 16,
            "downsample_ratio": 4,
            "image_mean": MEAN,
            "image_std": MEAN,
            "image_token": "<image>",
            "pad_token": "<｜▁pad▁｜>",
        },
        max_images=1,
        fixed=fixed,
    )


DEEPSEEK_OCR = deepseek_ocr(
    {"layers": 2, "hidden_size": 1024, "intermediate_size": 32, "num_attention_heads": 16, "patch_size": 14},
    {"mlx_vlm.models.deepseekocr.deepseekocr.SAMViTConfig": lambda: SAM},
)
DEEPSEEK_OCR_2 = deepseek_ocr(
    {"width": {"qwen2-0-5b": {"dim": 896}}, "hidden_size": 896},
    {
        "mlx_vlm.models.deepseekocr_2.deepseekocr_2.SAMViTConfig": lambda: SAM,
        "mlx_vlm.models.deepseekocr_2.vision.Qwen2EncoderConfig": _qwen2_encoder,
    },
)

MINICPM_TOKENS = ("<image>", "</image>", "<slice>", "</slice>", "<unk>", "<image_id>", "</image_id>", "<|listen|>")
MINICPM_O = Family(
    config=text(rope_scaling={"type": "default", "mrope_section": [4, 6, 6]})
    | {
        "vision_config": vision("siglip_vision_model"),
        "query_num": 16,
        "image_size": 112,
        "init_audio": True,
        "init_tts": False,
        "audio_config": {
            "d_model": 32,
            "encoder_layers": 2,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 128,
        },
    },
    image="<image>./</image>\n",
    audio="<audio>./</audio>\n",
    tokens=(*MINICPM_TOKENS, "<|audio_start|>", "<|audio_end|>"),
    tokenizer={"unk_token": "<unk>"},
    image_proc={"patch_size": 14, "scale_resolution": 112, "image_feature_size": 16},
)
MINICPM_V = Family(
    config={
        "text_config": QWEN["qwen3_5"].config["text_config"],
        "vision_config": vision("siglip_vision_model"),
        "insert_layer_id": 0,
    },
    image="<|image_pad|>\n",
    tokens=MINICPM_TOKENS,
    image_proc={"patch_size": 14, "scale_resolution": 224, "max_slice_nums": 1},
)

MLLAMA = Family(
    config={
        "text_config": text("mllama", num_hidden_layers=4, cross_attention_layers=[1, 3]),
        "vision_config": {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_global_layers": 2,
            "num_attention_heads": 2,
            "image_size": 112,
            "patch_size": 14,
            "intermediate_layers_indices": [0, 1],
            "vision_output_dim": 3 * 64,
        },
        "image_token_index": "<|image|>",
    },
    image="<|image|>",
    tokens=("<|image|>", "<|python_tag|>", "<|begin_of_text|>"),
    bos="<|begin_of_text|>",
    image_proc=image_processor("MllamaImageProcessor", size={"height": 112, "width": 112}, max_image_tiles=4),
    max_images=1,
)

PHI4_SOUND = "<|endoftext11|>"
PHI4 = Family(
    config=text(partial_rotary_factor=1.0)
    | {
        "vision_config": vision("siglip2_vision_model"),
        "mm_hidden_size": 64,
        "audio_token_index": PHI4_SOUND,
        "min_num_patches": 16,
        "max_num_patches": 64,
        "audio_processor": {
            "config": {
                "attention_dim": 64,
                "attention_heads": 2,
                "num_blocks": 1,
                "linear_units": 64,
                "ext_pw_out_channel": 64,
                "depthwise_seperable_out_channel": 64,
                "conv_channels": 64,
            }
        },
    },
    image="<|image_1|>",
    audio="<|audio_1|>",
    tokens=(PHI4_SOUND, "<|image|>"),
    fixed={"mlx_vlm.models.phi4mm.processing_phi4mm.AUDIO_TOKEN_INDEX": 1024},
)

_GEMMA4 = GEMMA["gemma4"]
GEMMA4_BOTH_WAYS = replace(
    _GEMMA4,
    config=_GEMMA4.config | {"text_config": _GEMMA4.config["text_config"] | {"use_bidirectional_attention": "vision"}},
)

GEMMA4_UNIFIED = replace(
    _GEMMA4,
    config=_GEMMA4.config
    | {
        "text_config": _GEMMA4.config["text_config"] | {"model_type": "gemma4_unified_text"},
        "vision_config": {
            "mm_embed_dim": 64,
            "mm_posemb_size": 64,
            "num_soft_tokens": 16,
            "output_proj_dims": 64,
        },
        "audio_config": {"audio_embed_dim": 640},  # the samples of one token
    },
)

FLORENCE2 = Family(
    config={
        "text_config": {
            "d_model": 64,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 128,
            "decoder_ffn_dim": 128,
            "encoder_layers": 2,
            "decoder_layers": 2,
        },
        "vision_config": {
            "depths": [1, 1, 1, 1],
            "dim_embed": [32, 32, 32, 64],
            "num_heads": [2, 2, 2, 2],
            "num_groups": [2, 2, 2, 2],
            "window_size": 4,
        },
        "image_token_id": "<image>",
        "image_token_index": "<image>",
    },
    image="",
    tokens=("<image>", "<loc_0>", "<s>"),
    bos="<s>",
    tokenizer={"image_token": "<image>", "extra_special_tokens": {"image_token": "<image>"}},
    image_proc=image_processor(
        "CLIPImageProcessor",
        size={"height": 128, "width": 128},
        crop_size={"height": 128, "width": 128},
        image_seq_length=17,
    ),
    max_images=1,
)
MINICPM_V_CANVAS = replace(
    MINICPM_V,
    config=MINICPM_V.config
    | {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "image_start_id": "<image>",
        "image_end_id": "</image>",
        "slice_start_id": "<slice>",
        "slice_end_id": "</slice>",
        "newline_id": 0,
    },
    embedding_scale=0.2,
)


def _mobilenet() -> list[list[Any]]:
    """Four stages as in mlx-vlm's, whose last two must be 640 and 1280 wide."""
    from mlx_vlm.models.gemma3n.vision import _er, _mmqa, _uir

    return [
        [_er(3, 32, 2), _er(3, 32)],
        [_uir(3, 5, 32, 2, 1.0), _uir(3, 0, 32, 1, 1.0)],
        [_uir(5, 5, 640, 2, 1.0), _mmqa(2, 16, 2)],
        [_uir(5, 5, 1280, 2, 1.0), _mmqa(2, 16, 1)],
    ]


GEMMA3N_MARKS = {
    "image_token": "<image_soft_token>",
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
    "audio_token": "<audio_soft_token>",
    "boa_token": "<start_of_audio>",
    "eoa_token": "<end_of_audio>",
}
GEMMA3N = Family(
    config={
        "text_config": text(
            "gemma3n_text",
            num_hidden_layers=4,
            layer_types=["sliding_attention", "full_attention"] * 2,
            num_kv_shared_layers=2,
            hidden_size_per_layer_input=32,
            intermediate_size=[128] * 4,
            laurel_rank=16,
            sliding_window=32,
            activation_sparsity_pattern=[0.0] * 4,
            query_pre_attn_scalar=32,
        ),
        "vision_config": {"model_type": "gemma3n_vision", "vocab_offset": "<image_soft_token>"},
        "audio_config": {
            "hidden_size": 64,
            "conf_num_attention_heads": 2,
            "conf_num_hidden_layers": 2,
            "sscp_conv_channel_size": [16, 8],
            "input_feat_size": 128,
            "vocab_offset": "<audio_soft_token>",
        },
        "image_token_id": "<image_soft_token>",
        "audio_token_id": "<audio_soft_token>",
        "audio_soft_tokens_per_image": 16,
    },
    image="<image_soft_token>",
    audio="<audio_soft_token>",
    tokens=("<bos>", *GEMMA3N_MARKS.values()),
    bos="<bos>",
    tokenizer=GEMMA3N_MARKS | {"extra_special_tokens": GEMMA3N_MARKS},
    image_proc=image_processor("SiglipImageProcessor", size={"height": 256, "width": 256})
    | {"feature_extractor_type": "Gemma3nAudioFeatureExtractor"},
    processor={"audio_seq_length": 16},  # of 0.16 s each; the published one has 188, mostly padding in a short sound
    embedding_scale=0.2,
    fixed={"mlx_vlm.models.gemma3n.vision.gemma3n_mobilenet_def": _mobilenet},
)

APART: dict[str, Family] = {
    "phi3_v": PHI3_V,
    "molmo2": MOLMO2,
    "deepseekocr": DEEPSEEK_OCR,
    "deepseekocr_2": DEEPSEEK_OCR_2,
    "minicpmo": MINICPM_O,
    "minicpmv4_6": MINICPM_V,
    "minicpmv4_7": MINICPM_V_CANVAS,
    "mllama": MLLAMA,
    "phi4mm": PHI4,
    "gemma4_unified": GEMMA4_UNIFIED,
    "florence2": FLORENCE2,
    "gemma3n": GEMMA3N,
}
