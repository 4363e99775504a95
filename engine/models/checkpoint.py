"""What a checkpoint's weights take in memory, from the headers of its files alone. Any thread; no weights are read."""

from __future__ import annotations

import math
from pathlib import Path

from engine.config import ModelSpec
from engine.errors import Unavailable
from engine.models.safetensors_files import HeaderTensor, read_header, weight_files

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_GROUP_BYTES = 4
"""Of the scale and the bias of 64 quantized numbers."""


def expected_bytes(path: Path, spec: ModelSpec) -> int:
    """What the weights of a model folder will take in memory, loaded as the settings ask. Raises Unavailable for a file
    that is not whole, or missing."""
    try:
        names = weight_files(path, [file.name for file in path.iterdir()])
        return sum(_bytes_as(tensor, spec) for name in names for tensor in read_header(path / name))
    except (ValueError, OSError) as error:
        raise Unavailable(
            f"The model in {path} is not whole: {error}", param="model", code="model_load_failed"
        ) from None


def _bytes_as(tensor: HeaderTensor, spec: ModelSpec) -> int:
    num = math.prod(tensor.shape)
    if spec.dtype:
        return num * _BYTES[spec.dtype]
    if spec.bits and len(tensor.shape) == 2 and tensor.shape[-1] % 64 == 0:
        return num * spec.bits // 8 + num // 64 * _GROUP_BYTES
    return tensor.num_bytes
