"""Checkpoints of a few kilobytes for the inventory: headers and settings as real ones have them, weights of zeros."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

QWEN3 = {
    "model_type": "qwen3",
    "num_hidden_layers": 4,
    "hidden_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 8192,
}


def write_weights(path: Path, num_bytes: int = 4096, dtype: str = "BF16") -> Path:
    """A safetensors file with one tensor of zeros."""
    width = {"BF16": 2, "F32": 4, "U32": 4, "F8_E4M3": 1}[dtype]
    header = {"w": {"dtype": dtype, "shape": [num_bytes // width], "data_offsets": [0, num_bytes]}}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(num_bytes))
    return path


def write_model(folder: Path, config: dict[str, Any] | None = None, shards: int = 1, shard_bytes: int = 4096) -> Path:
    """A folder that looks like a model; it cannot be loaded."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"model-{number + 1:05}-of-{shards:05}.safetensors" for number in range(shards)]
    if shards == 1:
        names = ["model.safetensors"]
    for name in names:
        write_weights(folder / name, shard_bytes)
    if shards > 1:
        index = {"metadata": {}, "weight_map": {f"w{place}": name for place, name in enumerate(names)}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "config.json").write_text(json.dumps(QWEN3 | (config or {})))
    return folder


def cached(cache: Path, repo_id: str, model: Path, commit: str = "a" * 40) -> Path:
    """A model's files laid out as in the hub's cache, linked to blobs. Returns the snapshot's folder."""
    repo = cache / f"models--{repo_id.replace('/', '--')}"
    snapshot = repo / "snapshots" / commit
    (repo / "blobs").mkdir(parents=True)
    (repo / "refs").mkdir()
    snapshot.mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    for place, path in enumerate(sorted(model.iterdir())):
        blob = repo / "blobs" / f"{place:040x}"
        blob.write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(blob)
    return snapshot
