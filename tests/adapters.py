"""Random LoRA adapters of tiny models, written by the library that trains them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten

STRENGTH = 0.6
"""Enough to change what a tiny model says."""


def write(
    model_folder: Path,
    folder: Path,
    *,
    vision: bool,
    seed: int = 1,
    kind: str = "lora",
    layers: list[str] | None = None,
) -> Path:
    """An adapter of a model, with random weights: lora_b is not zero as in a new one. layers: names of those that it
    adapts in mlx-vlm, None for those that it chooses. Returns its folder."""
    config: dict[str, Any] = {"rank": 4, "scale": 2.0, "dropout": 0.1}
    model = load(model_folder, vision=vision)
    if vision:
        from mlx_vlm.trainer.peft import get_peft_model

        model = get_peft_model(model, layers, rank=4, alpha=8.0, dropout=0.1, verbose=False, use_dora=kind == "dora")
        saved = model._vlm_adapter_config
    else:
        from mlx_lm.tuner.utils import linear_to_lora_layers

        model.freeze()
        linear_to_lora_layers(model, 2, config, use_dora=kind == "dora")
        saved = {"fine_tune_type": kind, "num_layers": 2, "lora_parameters": config}
    flat: Any = tree_flatten(model.trainable_parameters())
    key = mx.random.key(seed)
    weights = {}
    for name, array in flat:
        key, own = mx.random.split(key)
        drawn = mx.random.normal(array.shape, key=own) * STRENGTH
        weights[name] = array if name.endswith(".m") else drawn
    folder.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(str(folder / "adapters.safetensors"), weights)
    (folder / "adapter_config.json").write_text(json.dumps(saved))
    return folder


def load(model_folder: Path, *, vision: bool) -> nn.Module:
    """A model as its library loads it."""
    if vision:
        import mlx_vlm

        model: nn.Module = mlx_vlm.load(str(model_folder))[0]
        return model
    import mlx_lm

    text: nn.Module = mlx_lm.load(str(model_folder))[0]
    return text
