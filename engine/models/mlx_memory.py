"""What a loaded model costs here, asked of MLX itself. Engine thread only."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache

import mlx.core as mx

from engine import device
from engine.cache import tensors
from engine.errors import BadRequest
from engine.models.adapter import Adapter

log = logging.getLogger(__name__)

CACHE_SHARE = 16
MAX_CACHE_BYTES = 4 * 1024**3
MAX_CPU_CACHE_BYTES = 256 * 1024**2
"""On a CPU more is no faster: the KV of a batch is of another size in each step, so that what was freed is not taken
again but kept, and half of a process's memory was that."""


def token_sizes(adapter: Adapter, *more: Adapter) -> dict[int | None, int]:
    """KV bytes of one token of one row by how many tokens the layers keep (None: all), by running two tokens through
    the model; empty when that fails. more: draft models, which keep the same row, too.

    Measured, for families differ in heads, shared layers and dtypes. It also compiles the first kernels, so that the
    first request does not wait for them.
    """
    layers = []
    try:
        for one in (adapter, *more):
            cache = one.make_cache()
            one.prefill([1, 2], (0, 2), cache, None)
            layers += cache
    except Exception:  # whatever a family's code raises: then its memory is not budgeted, and it serves all the same
        log.warning("the memory of a token could not be measured", exc_info=True)
        return {}
    return tensors.bytes_per_token(layers)


def peak_of(run: Callable[[], object]) -> int:
    """The most bytes that MLX had in use at once while this ran, beyond what was in use before. MLX counts the peak of
    the process anew from here."""
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    run()
    return max(0, mx.get_peak_memory() - before)


@cache
def device_bytes() -> int:
    """Memory that MLX may fill: on a Mac what Metal recommends, on CUDA the card's, else the machine's. Asked once."""
    info = mx.device_info()
    for name in ("max_recommended_working_set_size", "total_memory", "memory_size"):
        if name in info:
            return int(info[name])
    return device.describe().memory_bytes


def limit_mlx_cache() -> None:
    """Bound what MLX keeps of freed arrays for its next ones.

    By default that is nearly all memory on a Mac, and 32 MiB on a CPU: too little for the arrays of one layer, so that
    each step asks the system for them anew, which costs more than computing them.
    """
    most = MAX_CPU_CACHE_BYTES if mx.default_device() == mx.Device(mx.cpu) else MAX_CACHE_BYTES
    mx.set_cache_limit(min(device_bytes() // CACHE_SHARE, most))


def has_wired_limit() -> bool:
    """Whether this device has a limit of memory that the system may not page out: Metal on macOS has."""
    return "max_recommended_working_set_size" in mx.device_info()


def set_wired_limit(num_bytes: int | None) -> None:
    """How much of MLX's memory the system may not page out; None is none of it, as MLX begins.

    mlx-lm's batcher sets all that Metal recommends, wherever it is made, and there are public reports of kernels that
    panic with it under concurrent streams (https://github.com/ml-explore/mlx/issues/3186). So who makes one calls
    this after it. Nothing happens without such a limit, unless one was asked for. Raises BadRequest for one that cannot
    be set.
    """
    if not has_wired_limit():
        if num_bytes:
            why = "there is none on this machine, only Metal on macOS has one"
            raise BadRequest(f"--wired-limit: {why}.", param="wired_limit")
        return
    try:
        mx.set_wired_limit(num_bytes or 0)
    except (ValueError, RuntimeError) as error:
        raise BadRequest(f"--wired-limit: the system refuses it: {error}", param="wired_limit") from None


def return_memory() -> None:
    """Give back what MLX and the C library keep of freed memory. For when nothing runs: the next steps get it anew."""
    mx.clear_cache()
    device.return_memory()
