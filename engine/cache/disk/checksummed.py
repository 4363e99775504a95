"""Files that can tell whether they are whole: safetensors whose last tensor is a digest of every byte before it.

Written under a temporary name and renamed, so a process that dies leaves the old file, the new one, or a stray
temporary one, never half a file. There is no fsync: what a power cut spoils, the digest finds. Pure Python, any thread.
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
from typing import Any

DIGEST = "digest"
TEMPORARY = ".part"
_DIGEST_BYTES = 16
_MAX_HEADER_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class Tensor:
    """dtype in the words of safetensors ("BF16"), its shape, and its bytes, row-major."""

    dtype: str
    shape: tuple[int, ...]
    data: memoryview


@dataclass(frozen=True, slots=True)
class Contents:
    """A file that was read and is whole: its tensors by name, without the digest, and what its header says of them."""

    tensors: dict[str, Tensor]
    facts: dict[str, str]

    @property
    def num_bytes(self) -> int:
        """Bytes of the tensors."""
        return sum(tensor.data.nbytes for tensor in self.tensors.values())


def header(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> bytes:
    """What comes before the tensors' bytes: https://huggingface.co/docs/safetensors#format."""
    entries: dict[str, object] = {"__metadata__": dict(facts)}
    at = 0
    all_tensors = {**tensors, DIGEST: Tensor("U8", (_DIGEST_BYTES,), memoryview(bytes(_DIGEST_BYTES)))}
    for name, tensor in all_tensors.items():
        end = at + tensor.data.nbytes
        entries[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def num_bytes(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> int:
    """The size of the file."""
    return len(header(tensors, facts)) + sum(t.data.nbytes for t in tensors.values()) + _DIGEST_BYTES


def write(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Write the file, readable by this user alone. Raises OSError, and then leaves nothing behind.

    The safetensors library would do this with the interpreter locked; hashing and writing here let others run.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
            for piece in (memoryview(header(tensors, facts)), *(tensor.data for tensor in tensors.values())):
                digest.update(piece)
                file.write(piece)
            file.write(digest.digest())
        os.replace(temporary, path)
    except OSError:
        remove(temporary)
        raise


def read(path: Path, num_bytes: int) -> Contents | None:
    """The file, of which num_bytes are expected. Returns None when it is damaged. Raises OSError.

    Reading and hashing let other threads run, and the tensors are views of what was read, not copies.
    """
    with open(path, "rb") as file:
        data = file.read(num_bytes + 1)  # never more, whatever lies there by now
    return _parse(data) if is_whole(data) else None


def is_whole(data: bytes) -> bool:
    """Whether the digest is that of the bytes before it."""
    body = memoryview(data)[:-_DIGEST_BYTES]
    return hmac.compare_digest(hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest(), data[-_DIGEST_BYTES:])


def _parse(data: bytes) -> Contents | None:
    try:
        (size,) = struct.unpack_from("<Q", data)
        entries = json.loads(data[8 : 8 + size])
        facts = {str(name): str(value) for name, value in entries.pop("__metadata__").items()}
        body = memoryview(data)[8 + size :]
        tensors = {name: _tensor(entry, body) for name, entry in entries.items() if name != DIGEST}
    except (ValueError, KeyError, TypeError, AttributeError, struct.error):
        return None
    return Contents(tensors, facts)


def _tensor(entry: Mapping[str, Any], body: memoryview) -> Tensor:
    start, end = entry["data_offsets"]
    return Tensor(entry["dtype"], tuple(entry["shape"]), body[start:end])


def facts(path: Path) -> dict[str, str]:
    """What the file's header says of it, not checked against the digest. Returns {} when it cannot be read."""
    try:
        with open(path, "rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            metadata = json.loads(file.read(min(size, _MAX_HEADER_BYTES)))["__metadata__"]
            return {str(name): str(value) for name, value in metadata.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return {}


def remove(path: Path) -> None:
    """Delete a file, if it is there and may be deleted."""
    try:
        path.unlink()
    except OSError:
        return
