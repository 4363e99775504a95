"""What a safetensors file says of itself in its header, held against its size. Any thread; pure.

8 bytes: length of the header (little endian) | the header: {"name": {"dtype", "shape", "data_offsets"}} | the tensors
https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import say_bytes
from engine.inventory.json_files import parse_object

MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""

ITEM_BYTES = {
    **{"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "C64": 8},
    **{"F16": 2, "BF16": 2, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1},
    **{"F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "F8_E4M3FNUZ": 1, "F8_E5M2FNUZ": 1},
}
"""Bytes of one number by the name of its type."""


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """num_bytes: of the tensors, by dtype. num_tensors: how many there are, by dtype. file_bytes: how long the file
    must be."""

    num_bytes: Counter[str]
    num_tensors: Counter[str]
    file_bytes: int


def read_header(path: Path) -> SafetensorsHeader:
    """The header of a file that is whole. Raises ValueError with the reason in one line, for any content."""
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
    found = _summed(header, path.name, 8 + header_bytes)
    if found.file_bytes != size:
        raise ValueError(f"{path.name} has {say_bytes(size)} of {say_bytes(found.file_bytes)}.")
    return found


def _summed(header: dict[str, Any], name: str, before_bytes: int) -> SafetensorsHeader:
    num_bytes: Counter[str] = Counter()
    num_tensors: Counter[str] = Counter()
    last = 0
    for tensor, entry in header.items():
        if tensor == "__metadata__":
            continue
        offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
        if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(place) is int for place in offsets):
            raise ValueError(f"The header of {name} does not say where its tensors are.")
        start, end = offsets
        if not 0 <= start <= end < 2**50:
            raise ValueError(f"The header of {name} does not say where its tensors are.")
        dtype = str(entry.get("dtype"))[:16]
        num_bytes[dtype] += end - start
        num_tensors[dtype] += 1
        last = max(last, end)
    return SafetensorsHeader(num_bytes, num_tensors, before_bytes + last)
