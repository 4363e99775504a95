"""Facts from a checkpoint's files, without loading it: which model it is, and how many bytes a decoded token reads."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HASHED_FILES = ("config.json", "tokenizer.json", "preprocessor_config.json", "chat_template.jinja")
SAMPLES, SAMPLE_BYTES = 64, 65536
NOT_DECODING = ("vision", "visual", "audio", "multi_modal", "mm_", "image_", "embed_vision", "embed_audio", "img_")
"""Beginnings of the names of modules that run in prefill only."""

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


def model_facts(path: str) -> dict[str, Any]:
    """Name, hash and sizes of the checkpoint in this folder. Returns {} where there is none."""
    folder = Path(path)
    if not path or not (folder / "config.json").is_file():
        return {}
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tensors = list(_tensors(folder))
    return {
        "name": folder.name,
        "model_type": config.get("model_type", ""),
        "hash": model_hash(folder),
        "num_bytes": sum(num_bytes for _, num_bytes in tensors),
        "bytes_per_token": bytes_per_token(tensors, config),
        "quantization": config.get("quantization"),
    }


def model_hash(folder: Path) -> str:
    """sha256 over the config files, and over each weights file's size, header and SAMPLES spread over it.

    The same files have the same hash on every machine. Takes milliseconds, as no weights file is read as a whole.
    """
    digest = hashlib.sha256()
    for name in HASHED_FILES:
        if (folder / name).is_file():
            digest.update(name.encode() + (folder / name).read_bytes())
    for file in sorted(folder.glob("*.safetensors")):
        size = file.stat().st_size
        digest.update(f"{file.name}{size}".encode())
        with file.open("rb") as weights:
            digest.update(_header(weights))
            for i in range(SAMPLES):
                weights.seek(max(0, size - SAMPLE_BYTES) * i // (SAMPLES - 1))
                digest.update(weights.read(SAMPLE_BYTES))
    return digest.hexdigest()


def bytes_per_token(tensors: list[tuple[str, int]], config: dict[str, Any]) -> int:
    """Bytes of weights that one decode step of one stream reads; KV is not counted.

    All weights but those of media towers, of an input embedding that is not tied to the output, and of the experts that
    a token is not routed to.
    """
    text = config.get("text_config") or config
    untied = any(".lm_head." in f".{name}" for name, _ in tensors)
    num_experts = next((int(text[name]) for name in EXPERTS if text.get(name)), 0)
    experts_per_token = int(text.get("num_experts_per_tok") or num_experts)
    total = 0.0
    for name, num_bytes in tensors:
        parts = name.split(".")
        if any(part.startswith(NOT_DECODING) for part in parts) or (untied and "embed_tokens" in parts):
            continue
        is_expert = num_experts and ("experts" in parts or "switch_mlp" in parts)
        total += num_bytes * experts_per_token / num_experts if is_expert else num_bytes
    return round(total)


def _tensors(folder: Path) -> Iterator[tuple[str, int]]:
    """(name, bytes) of every tensor, from the files' headers. https://github.com/huggingface/safetensors#format"""
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as weights:
            header = json.loads(_header(weights))
        for name, entry in header.items():
            if name != "__metadata__":
                start, end = entry["data_offsets"]
                yield name, end - start


def _header(weights: Any) -> bytes:
    weights.seek(0)
    (length,) = struct.unpack("<Q", weights.read(8))
    header: bytes = weights.read(length)
    return header
