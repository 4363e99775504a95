"""Arguments of a pass, as one process tells them to another: a tree in JSON, and its arrays as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np


def to_parts(value: Any, parts: list[bytes]) -> Any:
    """A tree of dicts, lists, arrays and what JSON has -> the same with the place of each array in `parts`, to which
    its bytes are added. Raises TypeError for anything else."""
    if isinstance(value, mx.array | np.ndarray):
        # numpy has no bfloat16
        bits: Any = value
        is_half = isinstance(value, mx.array) and value.dtype == mx.bfloat16
        array = np.ascontiguousarray(np.array(bits.view(mx.uint16) if is_half else bits))
        parts.append(array.tobytes())
        return {"array": len(parts) - 1, "dtype": "bfloat16" if is_half else array.dtype.name, "shape": array.shape}
    if isinstance(value, dict):
        return {"dict": {name: to_parts(one, parts) for name, one in value.items()}}
    if isinstance(value, list | tuple):
        return [to_parts(one, parts) for one in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} cannot be told to another rank")


def from_parts(tree: Any, parts: Sequence[bytes]) -> Any:
    """What `to_parts` was given; arrays are MLX's."""
    if isinstance(tree, list):
        return [from_parts(one, parts) for one in tree]
    if not isinstance(tree, dict):
        return tree
    if "dict" in tree:
        return {name: from_parts(one, parts) for name, one in tree["dict"].items()}
    is_half = tree["dtype"] == "bfloat16"
    flat = np.frombuffer(parts[tree["array"]], np.uint16 if is_half else np.dtype(tree["dtype"]))
    array = mx.array(flat.reshape(tree["shape"]))
    return array.view(mx.bfloat16) if is_half else array
