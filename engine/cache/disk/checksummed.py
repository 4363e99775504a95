"""Files that can tell whether they are whole: safetensors whose last tensor is a digest of every byte before it.

Written under a temporary name and renamed, so a process that dies leaves the old file, the new one, or a stray
temporary one, never half a file. There is no fsync: what a power cut spoils, the seal finds. Pure Python, any thread.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SEAL = "seal"
_SEAL_BYTES = 16
_MAX_HEADER_BYTES = 1 << 22
TEMPORARY = ".part"


@dataclass(frozen=True, slots=True)
class Tensor:
    """dtype in the words of safetensors ("BF16"), its shape, and its bytes, row-major."""

    dtype: str
    shape: tuple[int, ...]
    data: memoryview


def header(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> bytes:
    """What comes before the tensors' bytes: https://huggingface.co/docs/safetensors#format."""
    entries: dict[str, object] = {"__metadata__": dict(facts)}
    at = 0
    sealed = {**tensors, SEAL: Tensor("U8", (_SEAL_BYTES,), memoryview(bytes(_SEAL_BYTES)))}
    for name, tensor in sealed.items():
        end = at + tensor.data.nbytes
        entries[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def num_bytes(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> int:
    """The size of the file."""
    return len(header(tensors, facts)) + sum(t.data.nbytes for t in tensors.values()) + _SEAL_BYTES


def write(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Write the file, for this user's eyes only. Raises OSError, and then leaves nothing behind.

    The safetensors library would do this with the interpreter locked; hashing and writing here let others run.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            seal = hashlib.blake2b(digest_size=_SEAL_BYTES)
            for piece in (memoryview(header(tensors, facts)), *(tensor.data for tensor in tensors.values())):
                seal.update(piece)
                file.write(piece)
            file.write(seal.digest())
        os.replace(temporary, path)
    except OSError:
        remove(temporary)
        raise


def read(path: Path) -> bytes | None:
    """The file, or None when it is damaged. Raises OSError."""
    data = path.read_bytes()
    return data if is_whole(data) else None


def is_whole(data: bytes) -> bool:
    """Whether the seal is that of the bytes before it."""
    body = memoryview(data)[:-_SEAL_BYTES]
    return hmac.compare_digest(hashlib.blake2b(body, digest_size=_SEAL_BYTES).digest(), data[-_SEAL_BYTES:])


def facts(path: Path) -> dict[str, str]:
    """What the file's header says of it, not checked against the seal. {} when it cannot be read."""
    try:
        with open(path, "rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            found = json.loads(file.read(min(size, _MAX_HEADER_BYTES)))["__metadata__"]
            return {str(name): str(value) for name, value in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return {}


def remove(path: Path) -> None:
    """Delete a file, if it is there and may be deleted."""
    try:
        path.unlink()
    except OSError:
        return
