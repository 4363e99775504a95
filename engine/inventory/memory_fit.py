"""Whether a model fits into this machine's memory, and with how much context. Pure.

    memory for models = what MLX may fill × --gpu-memory-utilization
    rest              = that − weights
    KV of requests    = rest − what stored prompts and pictures may take (as asked for, at most half of the rest)
    largest context   = KV of requests / KV of a token − room to answer, and at most the model's own

by the engine's own rule (engine.runtime.memory_use.memory), for one request and with no other model in memory.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.inventory.checkpoint_facts import Checkpoint
from engine.runtime.memory_use.memory import GROWTH_TOKENS, ModelMemory, share
from engine.types import DeviceInfo

LEAST_CONTEXT = 2048
"""Tokens of context without which a model is not said to fit: a picture, its question and an answer."""

_MAC_SHARES = ((36 * 1024**3, 2 / 3), (2**63, 3 / 4))
"""Of a Mac's memory, what Metal recommends to fill by default: two thirds up to 36 GiB, three quarters above."""


@dataclass(frozen=True, slots=True)
class MachineMemory:
    """memory_bytes: what MLX may fill. utilization: share of it that models may take, 0 to 1. stored_bytes: what stored
    prompts and pictures may take of that at most."""

    memory_bytes: int
    utilization: float
    stored_bytes: int

    @property
    def model_bytes(self) -> int:
        """What weights and KV may take together."""
        return int(self.memory_bytes * self.utilization)


@dataclass(frozen=True, slots=True)
class ModelFit:
    """fits: whether it can be used here. context_tokens: of the largest request; None where the KV of a token is not
    known, or where the weights alone are too large. weight_bytes of room_bytes are needed for them.
    own_context_tokens: of the model itself, where memory allows it less; else None."""

    fits: bool
    context_tokens: int | None = None
    weight_bytes: int = 0
    room_bytes: int = 0
    own_context_tokens: int | None = None


def usable_bytes(device: DeviceInfo) -> int:
    """What MLX may fill, as long as nobody has asked MLX itself: exact on a CPU, a guess on a Mac; on CUDA the
    machine's memory, for the card's is not known before."""
    if device.mlx_device != "Metal GPU":
        return device.memory_bytes
    share_of = next(share_of for most, share_of in _MAC_SHARES if device.memory_bytes <= most)
    return int(device.memory_bytes * share_of)


def room(model: Checkpoint, machine: MachineMemory) -> ModelFit:
    """Whether this model fits, alone."""
    sizes = model.weight_bytes, machine.model_bytes
    if model.weight_bytes >= machine.model_bytes:
        return ModelFit(False, None, *sizes)
    if not model.token_bytes:
        return ModelFit(True, None, *sizes)
    memory = ModelMemory(model.weight_bytes, model.token_bytes)
    budget = share(machine.memory_bytes, machine.utilization, [memory], machine.stored_bytes)[0]
    tokens = max(0, (budget.row_tokens or 0) - GROWTH_TOKENS)
    if tokens < min(LEAST_CONTEXT, model.context_tokens):
        return ModelFit(False, tokens, *sizes, model.context_tokens)
    if tokens < model.context_tokens:
        return ModelFit(True, tokens, *sizes, model.context_tokens)
    return ModelFit(True, model.context_tokens, *sizes)


def room_for(weight_bytes: int, machine: MachineMemory) -> ModelFit:
    """The same where only the size of the weights is known, as on the hub."""
    return room(Checkpoint(weight_bytes=weight_bytes), machine)
