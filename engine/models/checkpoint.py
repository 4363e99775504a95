"""What a checkpoint's weights take, and whether its files are whole, from the headers of its safetensors files alone.

Any thread; no MLX, and no weights are read.
https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.config import ModelSpec
from engine.errors import Unavailable, say_bytes

MAX_HEADER_BYTES = 100 * 1024**2
"""The format's own limit."""

_INDEX = "model.safetensors.index.json"
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_GROUP_BYTES = 4
"""Of the scale and the bias of 64 quantized numbers."""


@dataclass(frozen=True, slots=True)
class HeaderTensor:
    """One tensor as a header describes it. num_bytes: in the file."""

    shape: tuple[int, ...]
    num_bytes: int

    def bytes_as(self, spec: ModelSpec) -> int:
        """What it takes in memory, loaded as the settings ask."""
        num = math.prod(self.shape)
        if spec.dtype:
            return num * _BYTES[spec.dtype]
        if spec.bits and len(self.shape) == 2 and self.shape[-1] % 64 == 0:
            return num * spec.bits // 8 + num // 64 * _GROUP_BYTES
        return self.num_bytes


def expected_bytes(path: Path, spec: ModelSpec) -> int:
    """What the weights of a model folder will take in memory. Raises Unavailable for a file that is not whole, or
    missing."""
    files = _weight_files(path)
    return sum(tensor.bytes_as(spec) for file in files for tensor in read_header(file))


def _weight_files(path: Path) -> list[Path]:
    """Its safetensors files. Raises Unavailable where one that the index names is not there."""
    index = path / _INDEX
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise _broken(index, "it is not the index of a model") from None
        if missing := [name for name in names if not (path / name).is_file()]:
            raise _broken(path / missing[0], f"it is missing, and {_INDEX} names it")
        return [path / name for name in names]
    return [file for file in sorted(path.glob("*.safetensors")) if file.name != "consolidated.safetensors"]


def read_header(file: Path) -> list[HeaderTensor]:
    """The tensors of a safetensors file. Raises Unavailable where the file is cut off, or no such file."""
    size = file.stat().st_size
    with file.open("rb") as f:
        head = f.read(8)
        num_bytes = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 2 <= num_bytes <= min(MAX_HEADER_BYTES, size - 8):
            raise _broken(file, f"with {say_bytes(size)} it holds no header")
        try:
            entries = json.loads(f.read(num_bytes))
            tensors = {name: _tensor(entry) for name, entry in entries.items() if name != "__metadata__"}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise _broken(file, "its header cannot be read") from None
    end = 8 + num_bytes + max((end for _, end in tensors.values()), default=0)
    if end > size:
        raise _broken(file, f"it has {say_bytes(size)} of {say_bytes(end)}; download it again")
    return [tensor for tensor, _ in tensors.values()]


def _tensor(entry: dict[str, Any]) -> tuple[HeaderTensor, int]:
    """A tensor, and where it ends behind the header."""
    start, end = entry["data_offsets"]
    return HeaderTensor(tuple(int(n) for n in entry["shape"]), int(end) - int(start)), int(end)


def _broken(file: Path, why: str) -> Unavailable:
    return Unavailable(f"{file} is not whole: {why}.", param="model", code="model_load_failed")
