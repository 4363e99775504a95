"""Write the trained weights as a checkpoint folder that mlx-vlm loads as it is.

    python convert.py run/long.pt ../demo-model
    python convert.py run/long.pt ../demo-model 0.25 run/language.pt    (a quarter of the weights before stage 3)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import pixels
import tokenizer
from network import Network

TEMPLATE = """{%- for message in messages %}<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content or [] %}{% if part.type in ('image', 'image_url', 'input_image') or 'image' in part %}<|vision_start|><|image_pad|><|vision_end|>{% elif part.type in ('video', 'video_url') or 'video' in part %}<|vision_start|><|video_pad|><|vision_end|>{% elif 'text' in part %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
CONTEXT = 16384


def ids() -> dict[str, int]:
    t = tokenizer.load()
    return {token: t.token_to_id(token) for token in tokenizer.SPECIAL}


def config(s) -> dict:
    i = ids()
    text = dict(
        model_type="qwen3_vl_text", num_hidden_layers=s.layers, hidden_size=s.hidden, intermediate_size=s.feed_forward,
        num_attention_heads=s.heads, num_key_value_heads=s.kv_heads, head_dim=s.head_dim, rms_norm_eps=1e-6,
        vocab_size=s.vocabulary, rope_theta=s.rope_theta, max_position_embeddings=CONTEXT, tie_word_embeddings=True,
        hidden_act="silu", attention_bias=False,
        rope_scaling=dict(type="default", rope_type="default", mrope_section=list(s.rope_sections), mrope_interleaved=True),
    )
    vision = dict(
        model_type="qwen3_vl", depth=s.vision_layers, hidden_size=s.vision_hidden, intermediate_size=s.vision_feed_forward,
        out_hidden_size=s.hidden, num_heads=s.vision_heads, patch_size=16, spatial_merge_size=2, temporal_patch_size=2,
        in_channels=3, hidden_act="gelu_pytorch_tanh", num_position_embeddings=s.position_grid**2,
        deepstack_visual_indexes=list(s.deepstack),
    )
    return dict(
        model_type="qwen3_vl", architectures=["Qwen3VLForConditionalGeneration"], torch_dtype="float32", text_config=text,
        vision_config=vision, image_token_id=i["<|image_pad|>"], video_token_id=i["<|video_pad|>"],
        vision_start_token_id=i["<|vision_start|>"], vision_end_token_id=i["<|vision_end|>"], vision_token_id=i["<|vision_pad|>"],
        vocab_size=s.vocabulary, eos_token_id=[i["<|im_end|>"]], tie_word_embeddings=True,
    )


def processors() -> tuple[dict, dict]:
    common = dict(patch_size=16, temporal_patch_size=2, merge_size=2, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    picture = dict(image_processor_type="Qwen2VLImageProcessorFast", size=dict(zip(("shortest_edge", "longest_edge"), pixels.IMAGE_PIXELS)), **common)
    low, high = pixels.FRAME_PIXELS
    clip = dict(
        video_processor_type="Qwen3VLVideoProcessor", fps=2.0, min_frames=4, max_frames=64,
        # the whole clip's budget, for programs that know nothing better: right for up to 16 frames
        size=dict(shortest_edge=4 * low, longest_edge=16 * high),
        # the budget of one frame, for programs that can keep it at any number of frames
        frame_shortest_edge=low, frame_longest_edge=high, **common,
    )
    return picture, clip


def read(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of a folder that ``write`` wrote, for the PyTorch twin."""
    weights = load_file(str(folder / "model.safetensors"))
    name = "vision_tower.patch_embed.proj.weight"
    weights[name] = weights[name].permute(0, 4, 1, 2, 3).reshape(len(weights[name]), -1).contiguous()
    return weights


def stored(path: str) -> dict[str, torch.Tensor]:
    """The weights in a checkpoint of the training or in a checkpoint folder."""
    if Path(path).is_dir():
        return read(Path(path))
    content = torch.load(path, weights_only=False, map_location="cpu")
    return content.get("smooth") or content["network"]


def write(weights: dict[str, torch.Tensor], folder: Path):
    folder.mkdir(parents=True, exist_ok=True)
    out = {}
    for name, value in weights.items():
        if name == "vision_tower.patch_embed.proj.weight":  # Conv3d, channels last
            value = value.view(-1, 3, 2, 16, 16).permute(0, 2, 3, 4, 1)
        out[name] = value.float().contiguous()
    save_file(out, str(folder / "model.safetensors"), metadata={"format": "mlx"})
    i, (picture, clip) = ids(), processors()
    special = {"clean_up_tokenization_spaces": False, "model_max_length": CONTEXT, "tokenizer_class": "PreTrainedTokenizerFast",
               "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
               "additional_special_tokens": [t for t in tokenizer.SPECIAL if t not in ("<|im_end|>", "<|endoftext|>")]}
    generation = {"eos_token_id": [i["<|im_end|>"]], "pad_token_id": i["<|endoftext|>"], "do_sample": False}
    for name, content in (("config", config(Network().s)), ("tokenizer_config", special), ("generation_config", generation),
                          ("preprocessor_config", picture), ("video_preprocessor_config", clip)):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    (folder / "tokenizer.json").write_text(tokenizer.FILE.read_text())
    print(folder, sum(v.numel() for v in out.values()), "parameters", (folder / "model.safetensors").stat().st_size, "bytes")


if __name__ == "__main__":
    weights = stored(sys.argv[1])
    if len(sys.argv) > 3:
        share, before = float(sys.argv[3]), stored(sys.argv[4])
        weights = {name: value.lerp(before[name], share) for name, value in weights.items()}
    write(weights, Path(sys.argv[2]))
