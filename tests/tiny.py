"""Tiny random models in checkpoint layout, written in about a second each, with no download.

    build("qwen3_vl", "4bit", folder)      -> folder/qwen3_vl-4bit   (families: tests/families/)
    sized("text" | "vision", 768, 12, ...) -> a wider one, for speed

Every model has a real tokenizer (byte-level BPE, trained on the standard library's sources), a chat template, processor
files, and the stop ids spread over the places where real checkpoints keep them. Deterministic by seed.
"""

from __future__ import annotations

import json
import sysconfig
import zlib
from functools import cache
from pathlib import Path
from typing import Any, Literal

from tests.families import APART, CHAT_TOKENS, FAMILIES, QWEN_TOKENS, Family, qwen, text

Dtype = Literal["float32", "bfloat16", "4bit"]
DTYPES: tuple[Dtype, ...] = ("float32", "bfloat16", "4bit")
GROUP_SIZE = 32
VOCAB_SIZE = 1024
END_OF_TURN = "<|im_end|>"
END_OF_TEXT = "<|endoftext|>"

CHAT_TEMPLATE = """{%- for m in messages %}<|im_start|>{{ m.role }}
{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}\
{% if c.type in ('image', 'image_url') %}@IMAGE@{% elif c.type in ('video', 'video_url') %}@VIDEO@\
{% elif c.type in ('audio', 'input_audio') %}@AUDIO@\
{% elif 'text' in c %}{{ c.text }}{% elif 'content' in c %}{{ c.content }}{% endif %}{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def build(family: str, dtype: Dtype, out_dir: Path, *, seed: int = 0) -> Path:
    """Write one tiny model under `out_dir` and return its folder; one that is there already is not written again."""
    folder = out_dir / f"{family}-{dtype}"
    if (folder / "config.json").exists():
        return folder
    return write(FAMILIES[family], family, dtype, folder, seed=seed)


def build_apart(family: str, patch: Any, out_dir: Path) -> Path:
    """One of those families whose sizes mlx-vlm fixes (tests/families/apart.py), at which it stays while `patch`, a
    pytest.MonkeyPatch, holds."""
    for place, size in APART[family].fixed.items():
        patch.setattr(place, size)
    folder = out_dir / f"{family}-apart"
    return folder if (folder / "config.json").exists() else write(APART[family], family, "float32", folder)


def sized(
    kind: Literal["text", "vision"], hidden: int, layers: int, out_dir: Path, *, dtype: Dtype = "float32"
) -> Path:
    """A Qwen3 or Qwen3-VL of chosen width and depth, random weights: for speed, never for sense."""
    shape = {"hidden_size": hidden, "num_hidden_layers": layers, "intermediate_size": 3 * hidden}
    shape |= {"num_attention_heads": hidden // 32, "num_key_value_heads": max(1, hidden // 64)}
    folder = out_dir / f"{kind}-{hidden}x{layers}-{dtype}"
    if kind == "text":
        return write(Family(config=text(**shape)), "qwen3", dtype, folder)
    tiny = FAMILIES["qwen3_vl"].config
    tower = tiny["vision_config"] | {"out_hidden_size": hidden}
    config = tiny | {"text_config": tiny["text_config"] | shape, "vision_config": tower}
    return write(qwen(config, patch_px=16, kind="Qwen2VLImageProcessorFast"), "qwen3_vl", dtype, folder)


def write(family: Family, model_type: str, dtype: Dtype, folder: Path, *, seed: int = 0) -> Path:
    """Write a checkpoint; config.json goes last, so that a folder with one is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _save_tokenizer(family, folder)
    config = _resolve(family.config, tokenizer.get_vocab())
    end_of_turn, end_of_text = (tokenizer.convert_tokens_to_ids(t) for t in (END_OF_TURN, END_OF_TEXT))
    config |= {"model_type": model_type, "vocab_size": len(tokenizer), "eos_token_id": end_of_text}
    if "text_config" in config:
        config["text_config"] |= {"vocab_size": len(tokenizer)}
        if "hidden_size_per_layer_input" in config["text_config"]:
            config["text_config"]["vocab_size_per_layer_input"] = len(tokenizer)
        config["text_config"] |= {"embedding_size": len(tokenizer)} if model_type == "molmo" else {}
    if "language_config" in config:
        config["language_config"] |= {"vocab_size": len(tokenizer)}
        config.setdefault("text_config", config["language_config"])
    for part in ("thinker_config", "talker_config"):
        if part in config:
            config[part]["text_config"] |= {"vocab_size": len(tokenizer)}
    model = _model(config, is_vision=family.vision)
    seed += zlib.crc32(model_type.encode())
    weights = _weights(model, dtype, seed, family.embedding_scale)
    if dtype == "4bit":
        config["quantization"] = {"group_size": GROUP_SIZE, "bits": 4}
    config["torch_dtype"] = "float32" if dtype == "float32" else "bfloat16"

    _save_weights(folder / "model.safetensors", weights)
    files = {
        "preprocessor_config.json": family.image_proc,
        "video_preprocessor_config.json": family.video_proc,
        "processor_config.json": family.processor,
        "generation_config.json": {"eos_token_id": [end_of_turn]},
        "config.json": config,
    }
    for name, content in files.items():
        if content is not None:
            (folder / name).write_text(json.dumps(content, indent=1))
    return folder


# -- tokenizer ---------------------------------------------------------------------------------------------------------


@cache
def _bpe_json() -> str:
    """The shared byte-level BPE, trained once per process on a slice of the standard library, as JSON."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[*CHAT_TOKENS, *QWEN_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train([str(path) for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:40]], trainer)
    return tokenizer.to_str()


def _save_tokenizer(family: Family, folder: Path) -> Any:
    """Write the shared tokenizer with the family's own special tokens and chat template; returns it."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_bpe_json()),
        eos_token=END_OF_TURN,
        pad_token=END_OF_TEXT,
        bos_token=family.bos,
        additional_special_tokens=[*QWEN_TOKENS, *family.tokens],
        model_max_length=4096,
    )
    template = CHAT_TEMPLATE
    for name, written in (("@IMAGE@", family.image), ("@VIDEO@", family.video), ("@AUDIO@", family.audio)):
        template = template.replace(name, written or "")
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    if family.tokenizer:
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | family.tokenizer, indent=1))
    return tokenizer


def _resolve(value: Any, vocab: dict[str, int]) -> Any:
    """Token texts become token ids, in a copy of the config."""
    if isinstance(value, dict):
        return {key: _resolve(item, vocab) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve(item, vocab) for item in value]
    if isinstance(value, str) and value[:1] in "<[" and value in vocab:
        return vocab[value]
    return value


# -- weights -----------------------------------------------------------------------------------------------------------


def _model(config: dict[str, Any], *, is_vision: bool) -> Any:
    """The empty model, by the same way as the library that loads it: mlx_vlm for vision, mlx_lm for text."""
    config = json.loads(json.dumps(config))
    if is_vision:
        from mlx_vlm.utils import get_model_and_args, update_module_configs

        module, _ = get_model_and_args(config)
        for name in ("text_config", "vision_config", "audio_config"):
            config.setdefault(name, {})
        model_config = module.ModelConfig.from_dict(config)
        modules = ["text", "vision", "perceiver", "projector", "audio"]
        return module.Model(update_module_configs(model_config, module, config, modules))
    from mlx_lm.utils import _get_classes

    model_class, args_class = _get_classes(config)
    return model_class(args_class.from_dict(config))


def _weights(model: Any, dtype: Dtype, seed: int, embedding_scale: float) -> dict[str, Any]:
    """Random parameters in `dtype`. Scaled to their fan-in: each layer then matters as much as the one before, so that
    a picture or a moved position shows in the tokens, and the two best logits are rarely near each other."""
    import mlx.core as mx
    from mlx import nn
    from mlx.utils import tree_flatten, tree_unflatten

    mx.random.seed(seed)
    floats = mx.float32 if dtype == "float32" else mx.bfloat16

    def draw(name: str, value: mx.array) -> mx.array:
        if not mx.issubdtype(value.dtype, mx.floating):
            return value
        if value.ndim > 1:
            fan_in = value.size // value.shape[0]
            scale = embedding_scale if "embed_tokens" in name else 1.0
            return (mx.random.normal(value.shape) * (scale * 1.5 / fan_in**0.5)).astype(floats)
        if "norm" in name.lower() and "bias" not in name:
            return value.astype(floats)
        return (mx.random.normal(value.shape) * 0.05).astype(floats)

    model.update(tree_unflatten([(name, draw(name, value)) for name, value in tree_flatten(model.parameters())]))
    if dtype == "4bit":
        nn.quantize(model, group_size=GROUP_SIZE, bits=4, class_predicate=_is_quantized)
    weights = dict(tree_flatten(model.parameters()))
    mx.eval(weights)
    return weights


def _is_quantized(path: str, module: Any) -> bool:
    """As converted checkpoints do it: the towers stay as they are."""
    from mlx_vlm.utils import skip_multimodal_module

    if not hasattr(module, "to_quantized") or skip_multimodal_module(path):
        return False
    return module.weight.shape[-1] % GROUP_SIZE == 0


def _save_weights(path: Path, weights: dict[str, Any]) -> None:
    import mlx.core as mx

    mx.save_safetensors(str(path), weights, metadata={"format": "mlx"})
    index = {"metadata": {"total_size": sum(w.nbytes for w in weights.values())}}
    index["weight_map"] = dict.fromkeys(weights, path.name)
    path.with_suffix(".safetensors.index.json").write_text(json.dumps(index))
