"""Which weights a checkpoint has and what they take in memory, from the headers of its files alone. Any thread; no
weights are read."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from engine.config import ModelSpec
from engine.errors import Unavailable
from engine.models.json_files import part, read_optional
from engine.models.lora_files import read_lora
from engine.models.safetensors_files import HeaderTensor, read_header, weight_files
from engine.types import ExpectedWeights

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_FLOAT8 = ("F8_E4M3", "F8_E5M2")
_GROUP_BYTES = 4
"""Of the scale and the bias of 64 quantized numbers."""


def expected_weights(path: Path, spec: ModelSpec) -> ExpectedWeights:
    """What a model takes with its adapter, if it has one, and which weights it shares. Raises Unavailable where a file
    of either is not whole, or missing."""
    num_bytes = expected_bytes(path, spec)
    adapter_bytes = read_lora(spec).num_bytes if spec.adapter_path else 0
    return ExpectedWeights(num_bytes + adapter_bytes, base_fingerprint(path, spec), adapter_bytes)


def fingerprint(path: Path, spec: ModelSpec) -> str:
    """Which model with which processor settings this is: its base, and the files of its adapter."""
    base = base_fingerprint(path, spec)
    if not spec.adapter_path:
        return base
    folder = Path(spec.adapter_path)
    return _hash((base, str(folder), _facts(folder.iterdir())))


def base_fingerprint(path: Path, spec: ModelSpec) -> str:
    """The same of a model without its adapter: names, sizes and times of the checkpoint's files, and how the weights
    are changed as they are loaded."""
    changed = (spec.bits, spec.dtype) if spec.bits or spec.dtype else ()
    return _hash((str(path), _facts(path.iterdir()), *changed, *(["text"] if spec.text_only else ())))


def _facts(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    found = sorted(file for file in files if file.suffix in (".json", ".safetensors", ".jinja"))
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in found]


def _hash(facts: tuple[object, ...]) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()


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
