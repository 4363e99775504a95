"""One model divided among several processes: each has some heads and some columns of every layer. Engine thread only.

Embeddings, norms and the head are on every rank; a tower that sees is on rank 0 alone.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx import nn
from mlx.nn.layers.distributed import shard_linear

from engine.errors import Unavailable
from engine.models.config_facts import text_part
from engine.models.json_files import whole
from engine.models.safetensors_files import weight_files
from engine.ranks.leader import TOKEN_BYTES
from engine.ranks.place import OPTION, RankPlace

DIVIDED = ("llama", "qwen2", "qwen3", "qwen3_vl")
"""Families that tests hold to the answers of one process."""

_COUNTS = ("num_attention_heads", "num_key_value_heads", "intermediate_size")
_OUT, _IN = ("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")
NUM_TOLD = 2 + TOKEN_BYTES


def joined(place: RankPlace) -> mx.distributed.Group:
    """The group of all ranks, once they have found each other. Raises Unavailable."""
    try:
        group = mx.distributed.init(strict=True, backend=place.backend)
    except (RuntimeError, ValueError) as error:
        why = f"rank {place.rank} has not found the other {place.size - 1} ({place.backend}): {error}"
        raise Unavailable(f"{why}.", code="rank_lost") from None
    if (group.rank(), group.size()) != (place.rank, place.size):
        why = f"MLX counts it as rank {group.rank()} of {group.size()}, mlx.launch as {place.rank} of {place.size}"
        raise Unavailable(f"{why}.", code="rank_lost")
    return group


def told_by_first(group: mx.distributed.Group, told: bytes = bytes(NUM_TOLD)) -> bytes:
    """NUM_TOLD bytes that rank 0 tells all ranks."""
    mine = mx.array(list(told), mx.uint8)
    heard = mx.distributed.all_sum(mine if group.rank() == 0 else mx.zeros_like(mine), group=group)
    return np.array(heard).tobytes()


def check_divides(raw: dict[str, Any], size: int) -> None:
    """Raise Unavailable, with the numbers, for a model that so many ranks cannot divide. raw: its config.json."""
    family = str(raw.get("model_type", ""))
    if family not in DIVIDED:
        raise _refused(size, f"{family} models are not divided among ranks here, only {', '.join(DIVIDED)}")
    facts = text_part(raw)
    for name in _COUNTS:
        number = whole(facts, name)
        if number and number % size:
            raise _refused(size, f"{name} {number:,} cannot be divided by {size}")


def shard(model: nn.Module, group: mx.distributed.Group) -> None:
    """Keep this rank's part of the layers of a model that `check_divides` has let pass, and whose weights are not read
    yet. Raises Unavailable where its weights are quantized in groups that the ranks cannot divide."""
    part: Any = getattr(model, "language_model", model)
    for layer in part.model.layers:
        _check_groups(layer, group.size())
    if callable(getattr(part, "shard", None)):
        part.shard(group)
    else:
        for layer in part.model.layers:
            _shard_layer(layer, group)


def _shard_layer(layer: Any, group: mx.distributed.Group) -> None:
    """As mlx-lm's Qwen3 has it; mlx-vlm's Qwen3-VL, with the same layers, has no `shard` of its own."""
    attention, mlp = layer.self_attn, layer.mlp
    for module, names in ((attention, _OUT), (mlp, _IN)):
        for name in names:
            module[name] = shard_linear(module[name], "all-to-sharded", group=group)
    for module, name in ((attention, "o_proj"), (mlp, "down_proj")):
        module[name] = shard_linear(module[name], "sharded-to-all", group=group)
    attention.n_heads //= group.size()
    attention.n_kv_heads //= group.size()


def _check_groups(layer: Any, size: int) -> None:
    """A quantized row is cut between groups of numbers that share a scale, never within one."""
    for module, name in ((layer.self_attn, "o_proj"), (layer.mlp, "down_proj")):
        linear = module[name]
        scales = getattr(linear, "scales", None)
        if scales is not None and (num_groups := scales.shape[-1]) % size:
            why = f"{name} is quantized in {num_groups:,} groups of {linear.group_size}, which {size} cannot divide"
            raise _refused(size, why)


def _refused(size: int, why: str) -> Unavailable:
    return Unavailable(f"{OPTION} {size}: {why}.", param=OPTION, code="model_load_failed")


def digest(path: Path) -> str:
    """Which checkpoint this is, on any machine: what its config.json says, and names and sizes of its weights."""
    names = weight_files(path, [file.name for file in path.iterdir()])
    facts = [(name, (path / name).stat().st_size) for name in sorted(names)]
    config = hashlib.sha256((path / "config.json").read_bytes()).hexdigest()
    return hashlib.sha256(repr((config, facts)).encode()).hexdigest()
