"""What a tiny model is made of: `Family`, and the sizes that most families share."""

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
    fixed         sizes that mlx-vlm fixes in its source: where they stand, and what they are while a test runs
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
    fixed: dict[str, Any] = field(default_factory=dict)

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


def deepseek(model_type: str, **changes: Any) -> dict[str, Any]:
    """A small text model of DeepSeek's: latent attention, experts but in the first layer."""
    return text(
        model_type,
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
        **changes,
    )


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
