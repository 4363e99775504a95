"""What a checkpoint's weights take in memory, from the headers of its files alone. Any thread; no weights are read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from engine.config import ModelSpec
from engine.errors import Unavailable
from engine.models.json_files import part, read_optional
from engine.models.safetensors_files import HeaderTensor, read_header, weight_files

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_FLOAT8 = ("F8_E4M3", "F8_E5M2")
_GROUP_BYTES = 4
"""Of the scale and the bias of 64 quantized numbers."""


def expected_bytes(path: Path, spec: ModelSpec) -> int:
    """What the weights of a model folder will take in memory, loaded as the settings ask. Raises Unavailable for a file
    that is not whole, or missing."""
    try:
        names = weight_files(path, [file.name for file in path.iterdir()])
        config = read_optional(path / "config.json")
        return sum(_bytes_as(tensor, spec, config) for name in names for tensor in read_header(path / name))
    except (ValueError, OSError) as error:
        raise Unavailable(
            f"The model in {path} is not whole: {error}", param="model", code="model_load_failed"
        ) from None


def memory_bytes(dtype: str, file_bytes: int, config: dict[str, Any]) -> int:
    """What weights of a type (by the format's name) take in memory that have so many bytes in their files: as many, for
    MLX maps types one to one, also on a CPU. Float8 alone is made bfloat16 as it is loaded, but for scales that are
    powers of two over squares of 32 (mlx-lm's load_model). config: of the model."""
    is_packed = part(config, "quantization_config").get("scale_fmt") == "ue8m0"
    return 2 * file_bytes if dtype in _FLOAT8 and not is_packed else file_bytes


def _bytes_as(tensor: HeaderTensor, spec: ModelSpec, config: dict[str, Any]) -> int:
    num = math.prod(tensor.shape)
    if spec.dtype:
        return num * _BYTES[spec.dtype]
    if spec.bits and len(tensor.shape) == 2 and tensor.shape[-1] % 64 == 0:
        return num * spec.bits // 8 + num // 64 * _GROUP_BYTES
    return memory_bytes(tensor.dtype, tensor.num_bytes, config)
