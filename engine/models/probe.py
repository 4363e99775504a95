"""What a loaded model costs here, asked of MLX itself. Engine thread only."""

from __future__ import annotations

import logging

import mlx.core as mx

from engine.cache import tensors
from engine.device import describe
from engine.models.adapter import Adapter

log = logging.getLogger(__name__)


def token_bytes(adapter: Adapter) -> int:
    """KV bytes of one token of one row, by running two tokens through the model; 0 when that fails.

    Measured, for families differ in heads, shared layers and dtypes. It also compiles the first kernels, so that the
    first request does not wait for them.
    """
    cache = adapter.make_cache()
    try:
        adapter.prefill([1, 2], (0, 2), cache, None)
    except Exception:  # whatever a family's code raises: then its memory is not budgeted, and it serves all the same
        log.warning("the memory of a token could not be measured", exc_info=True)
        return 0
    return tensors.bytes_per_token(cache)


def device_bytes() -> int:
    """Memory that MLX may fill: on a Mac what Metal recommends, on CUDA the card's, else the machine's."""
    info = mx.device_info()
    for name in ("max_recommended_working_set_size", "total_memory", "memory_size"):
        if name in info:
            return int(info[name])
    return describe().memory_bytes
