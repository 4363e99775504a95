"""The files of a LoRA adapter, as mlx-lm and mlx-vlm write them. Any thread; no MLX, and no weights are read.

    adapter_config.json     {"fine_tune_type": "lora" or "dora", "num_layers", "lora_parameters": {"rank", "scale", …}}
    adapters.safetensors    lora_a, lora_b (and m, of DoRA) of each adapted layer

https://github.com/ml-explore/mlx-lm/blob/main/mlx_lm/LORA.md
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.config import ModelSpec
from engine.errors import Unavailable
from engine.models.json_files import read_object
from engine.models.safetensors_files import read_header

CONFIG, WEIGHTS = "adapter_config.json", "adapters.safetensors"
_PEFT_WEIGHTS = "adapter_model.safetensors"
_KINDS = ("lora", "dora")


@dataclass(frozen=True, slots=True)
class LoraFiles:
    """An adapter whose files are whole. num_bytes: of its weights."""

    folder: Path
    config: dict[str, Any]
    num_bytes: int

    @property
    def weights(self) -> Path:
        """The file with its weights."""
        return self.folder / WEIGHTS


def read_lora(spec: ModelSpec) -> LoraFiles:
    """The adapter of a model. Raises Unavailable with what is missing or broken."""
    folder = Path(spec.adapter_path or "")
    try:
        if not (folder / WEIGHTS).exists() and (folder / _PEFT_WEIGHTS).is_file():
            raise ValueError(f"{_PEFT_WEIGHTS} is PEFT's; here it is {WEIGHTS}, as mlx-lm and mlx-vlm write it.")
        config = read_object(folder / CONFIG)
        tensors = read_header(folder / WEIGHTS)
        kind = str(config.get("fine_tune_type", "lora"))[:32]
        if kind not in _KINDS:
            raise ValueError(f"its fine_tune_type is {kind!r}, and only {' and '.join(_KINDS)} are adapters.")
        if not tensors:
            raise ValueError(f"{WEIGHTS} is empty.")
    except ValueError as error:
        raise unusable(spec, str(error)) from None
    return LoraFiles(folder, config, sum(tensor.num_bytes for tensor in tensors))


def unusable(spec: ModelSpec, why: str) -> Unavailable:
    """The error of a model whose adapter cannot be used."""
    reason = why.replace(str(spec.adapter_path), "its folder").rstrip(".")
    return Unavailable(
        f"The adapter of {spec.served_name} cannot be used: {reason}.", param="model", code="model_load_failed"
    )
