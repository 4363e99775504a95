"""Which model it is, and what a token reads, from the files alone."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

from engine.assets import asset
from engine.measure.bench.bytes_per_token import bytes_per_token, model_facts, model_hash
from engine.measure.versions import versions


def test_a_token_does_not_read_everything() -> None:
    tensors = [
        ("vision_tower.blocks.0.weight", 1000),
        ("language_model.model.embed_tokens.weight", 100),
        ("language_model.model.layers.0.mlp.weight", 10),
    ]
    assert bytes_per_token(tensors, {}) == 110, "a tied embedding is the output too"
    assert bytes_per_token([*tensors, ("language_model.lm_head.weight", 100)], {}) == 110
    experts = [*tensors, ("language_model.model.layers.0.mlp.switch_mlp.up_proj.weight", 800)]
    assert bytes_per_token(experts, {"text_config": {"num_experts": 8, "num_experts_per_tok": 2}}) == 310


def test_the_demo_models_facts() -> None:
    facts = model_facts(str(asset("demo-model")))
    assert facts["model_type"] == "qwen3_vl" and len(facts["hash"]) == 64
    assert (
        0
        < facts["bytes_per_token"]
        < facts["num_bytes"]
        < asset("demo-model").joinpath("model.safetensors").stat().st_size
    )
    assert model_facts("") == {} == model_facts("/nowhere")
    assert {"python", "mlx", "mlx-lm", "mlx-vlm"} <= versions().keys()


def test_the_hash_is_of_the_content(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    folder = tiny_model("qwen3_vl")
    same = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    assert model_hash(same) == model_hash(folder)
    weights = same / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    (length,) = struct.unpack("<Q", raw[:8])
    assert json.loads(raw[8 : 8 + length])
    raw[-1] ^= 1
    weights.write_bytes(raw)
    assert model_hash(same) != model_hash(folder)
