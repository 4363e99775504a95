"""How much KV a token takes, from a model's config.json. Pure.

    numbers of a token = sum over the layers that keep KV of  KV heads × (width of a key + width of a value)

and, of models that keep the latent vector of multi-head latent attention (https://arxiv.org/abs/2405.04434, section
2.1), its rank + the width of its rotary part. So mlx-lm lays it out: keys and values of a layer are arrays (rows, KV
heads, tokens, width), see https://github.com/ml-explore/mlx-lm/blob/main/mlx_lm/models/cache.py; grouped queries share
a KV head (https://arxiv.org/abs/2305.13245, section 2.2). Their type is that of the model's floats: bfloat16 for most,
also for quantized ones, whose scales have it; float32 where the checkpoint is float32. MLX converts nothing on a CPU.

Layers of a sliding window count as if they saw everything, as the engine's admission counts them
(engine.runtime.memory_use.memory). State-space and linear-attention layers keep a state of one size, which is small,
and are left out. A test holds this against what the engine measures of every family it has a tiny model of.
"""

from __future__ import annotations

from typing import Any

from engine.models.config_facts import answering_part, text_part
from engine.models.json_files import whole

_MOST = 2**24
MAX_LAYERS = 4096
_LATENT = frozenset({"deepseek_v3", "deepseek_v32", "glm4_moe_lite", "longcat_flash", "kimi_k3", "mistral4"})
"""Families of mlx-lm that keep latent vectors; others with a kv_lora_rank keep the keys and values made of them."""
_EXPANDED = frozenset({"kimi_vl"})
"""Families of mlx-vlm whose decoder has the name of such a family, and keeps keys and values all the same."""
_NO_KV = ("linear_attention", "mamba", "conv", "recurrent", "short_conv")


def token_numbers(config: dict[str, Any]) -> int:
    """Numbers of KV that one token of one row takes, over all layers; 0 where config.json does not say."""
    text = text_part(answering_part(config))
    layers = whole(text, "num_hidden_layers", "n_layers", "num_layers", "n_layer", most=MAX_LAYERS) - _across(text)
    heads = whole(text, "num_attention_heads", "n_heads", "n_head", "num_heads", most=_MOST)
    hidden = whole(text, "hidden_size", "d_model", "n_embd", "dim", most=_MOST)
    kv_heads = whole(text, "num_key_value_heads", "n_kv_heads", "num_kv_heads", most=_MOST) or heads
    width = whole(text, "head_dim", most=_MOST) or (hidden // heads if heads else 0)
    if not (layers > 0 and kv_heads and width):
        return 0
    is_latent = text.get("model_type") in _LATENT and config.get("model_type") not in _EXPANDED
    if is_latent and (rank := whole(text, "kv_lora_rank", most=_MOST)):
        return layers * (rank + whole(text, "qk_rope_head_dim", most=_MOST))
    kinds = _kinds(text, layers)
    kinds = kinds[: len(kinds) - whole(text, "num_kv_shared_layers", most=len(kinds) - 1)] if kinds else kinds
    wide = whole(text, "global_head_dim", most=_MOST) or width
    few = whole(text, "num_global_key_value_heads", most=_MOST) or kv_heads
    full = few * _key_and_value(text, wide)
    sliding = kv_heads * _key_and_value(text, width)
    return sum(full if kind == "full_attention" else sliding for kind in kinds if kind not in _NO_KV)


def _across(text: dict[str, Any]) -> int:
    """Layers that look at a picture instead of the text, and keep nothing (Llama 3.2 Vision)."""
    places = text.get("cross_attention_layers")
    return min(len(places), MAX_LAYERS) if isinstance(places, list) else 0


def _key_and_value(text: dict[str, Any], width: int) -> int:
    """Width of a key and of a value together."""
    value = whole(text, "v_head_dim", most=_MOST) or width
    rope, nope = whole(text, "qk_rope_head_dim", most=_MOST), whole(text, "qk_nope_head_dim", most=_MOST)
    return (rope + nope if rope and nope else width) + value


def _kinds(text: dict[str, Any], layers: int) -> list[str]:
    """The kind of each layer."""
    given = text.get("layer_types")
    if isinstance(given, list) and len(given) == layers:
        return [str(kind) for kind in given]
    for interval, others in (("full_attention_interval", "linear_attention"), ("sliding_window_pattern", "sliding")):
        if every := whole(text, interval, most=layers):
            return ["full_attention" if (place + 1) % every == 0 else others for place in range(layers)]
    return ["full_attention"] * layers
