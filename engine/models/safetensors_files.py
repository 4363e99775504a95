"""Which files hold a checkpoint's weights, and what each says of itself in its header, held against its size. Any
thread; no MLX, and no weights are read.

8 bytes: length of the header (little endian) | the header: {"name": {"dtype", "shape", "data_offsets"}} | the tensors
https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from engine.errors import say_bytes
from engine.models.json_files import parse_object, part, read_object

MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""

ITEM_BYTES = {
    **{"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "C64": 8},
    **{"F16": 2, "BF16": 2, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1},
    **{"F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "F8_E4M3FNUZ": 1, "F8_E5M2FNUZ": 1},
}
"""Bytes of one number by the name of its type."""


INDEX = "model.safetensors.index.json"
MAX_FILES = 4096


@dataclass(frozen=True, slots=True)
class HeaderTensor:
    """One tensor as a header describes it. dtype: by the format's name; num_bytes: in the file."""

    dtype: str
    shape: tuple[int, ...]
    num_bytes: int


def weight_files(folder: Path, names: Collection[str]) -> list[str]:
    """The files of weights as mlx-lm and mlx-vlm find them: those of the index, or all there are.

    names: of the files in the folder. Raises ValueError with the reason in one line for an index that cannot be used,
    as for a name in it that is a path: it may lead anywhere.
    """
    if INDEX not in names:
        return sorted(name for name in names if name.endswith(".safetensors") and name != "consolidated.safetensors")
    found = {str(name) for name in part(read_object(folder / INDEX), "weight_map").values()}
    if strange := [name for name in found if "/" in name or "\\" in name or not name.endswith(".safetensors")]:
        raise ValueError(f"{INDEX} names {min(strange)[:80]!r}, which is no file of weights.")
    if len(found) > MAX_FILES:
        raise ValueError(f"{INDEX} names more than {MAX_FILES:,} files.")
    return sorted(found)


def read_header(path: Path) -> list[HeaderTensor]:
    """The tensors of a file that is whole. Raises ValueError with the reason in one line, for any content."""
    try:
        if not path.is_file():
            raise ValueError(f"{path.name} is missing.")
        size = path.stat().st_size
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
            if size < 8 or header_bytes > min(size - 8, MAX_HEADER_BYTES):
                raise ValueError(f"{path.name} is not whole, or no safetensors file: it has {say_bytes(size)}.")
            header = parse_object(file.read(header_bytes), f"The header of {path.name}")
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read: {error.strerror or error}.") from None
    tensors, end = _tensors(header, path.name)
    if 8 + header_bytes + end != size:
        raise ValueError(f"{path.name} has {say_bytes(size)} of {say_bytes(8 + header_bytes + end)}.")
    return tensors


def _tensors(header: dict[str, Any], name: str) -> tuple[list[HeaderTensor], int]:
    """The tensors, and where the last of them ends behind the header."""
    tensors, last = [], 0
    for tensor, value in header.items():
        if tensor == "__metadata__":
            continue
        entry = value if isinstance(value, dict) else {}
        offsets, shape = entry.get("data_offsets"), entry.get("shape")
        if not _are_numbers(offsets) or len(offsets) != 2 or not 0 <= offsets[0] <= offsets[1] < 2**50:
            raise ValueError(f"The header of {name} does not say where its tensors are.")
        if not _are_numbers(shape) or any(not 0 <= length < 2**50 for length in shape):
            raise ValueError(f"The header of {name} does not say what shape its tensors have.")
        tensors.append(HeaderTensor(str(entry.get("dtype"))[:16], tuple(shape), offsets[1] - offsets[0]))
        last = max(last, offsets[1])
    return tensors, last


def _are_numbers(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(number) is int for number in value)
