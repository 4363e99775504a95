"""MLX arrays as the tensors of a file, and back. Engine thread only."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from engine.cache.disk.checksummed import Tensor

# The words of safetensors, MLX's type, and the numpy type that has these bytes; numpy has no bfloat16.
_TYPES: dict[str, tuple[mx.Dtype, type[np.generic]]] = {
    "BF16": (mx.bfloat16, np.uint16),
    "F16": (mx.float16, np.float16),
    "F32": (mx.float32, np.float32),
    "I32": (mx.int32, np.int32),
    "I64": (mx.int64, np.int64),
    "U32": (mx.uint32, np.uint32),
    "U8": (mx.uint8, np.uint8),
    "BOOL": (mx.bool_, np.bool_),
}
_NAMES = {dtype: name for name, (dtype, _) in _TYPES.items()}


def is_supported(array: mx.array) -> bool:
    """Whether a file can hold arrays of this type."""
    return array.dtype in _NAMES


def to_tensor(array: mx.array) -> Tensor:
    """A view of an evaluated, contiguous array: the bytes are the array's own memory, so it must outlive the tensor."""
    buffer: Any = array  # MLX's type stubs do not know that it is one
    data = memoryview(buffer).cast("B") if array.size else memoryview(b"")
    return Tensor(_NAMES[array.dtype], tuple(array.shape), data)


def to_array(tensor: Tensor) -> mx.array:
    """A copy of a tensor. Raises KeyError for a type that is not supported, ValueError for a wrong number of bytes."""
    dtype, numpy_type = _TYPES[tensor.dtype]
    array = mx.array(np.frombuffer(tensor.data, numpy_type).reshape(tensor.shape))
    return array.view(dtype) if dtype == mx.bfloat16 else array
