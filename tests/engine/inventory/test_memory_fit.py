"""Whether a model fits, by the engine's own rule."""

from __future__ import annotations

from engine.inventory.checkpoint_facts import Checkpoint
from engine.inventory.memory_fit import LEAST_CONTEXT, MachineMemory, room, room_for, usable_bytes
from engine.runtime.memory_use.memory import GROWTH_TOKENS
from engine.types import DeviceInfo

GB = 1024**3
MACHINE = MachineMemory(16 * GB, 0.9, 4 * GB)


def model(weight_gb: float, token_bytes: int, context_tokens: int = 32_768) -> Checkpoint:
    return Checkpoint(weight_bytes=int(weight_gb * GB), token_bytes=token_bytes, context_tokens=context_tokens)


def test_a_small_model_has_its_own_context() -> None:
    found = room(model(2, 100_000), MACHINE)
    assert (found.fits, found.context_tokens, found.own_context_tokens) == (True, 32_768, None)


def test_memory_bounds_the_context() -> None:
    found = room(model(12, 100_000), MACHINE)
    rest = int(16 * GB * 0.9) - 12 * GB
    assert found.fits and found.context_tokens == (rest - rest // 2) // 100_000 - GROWTH_TOKENS
    assert found.own_context_tokens == 32_768


def test_too_little_is_left_for_a_conversation() -> None:
    found = room(model(14.2, 200_000), MACHINE)
    assert not found.fits and (found.context_tokens or 0) < LEAST_CONTEXT
    assert (found.weight_bytes, found.room_bytes) == (int(14.2 * GB), int(14.4 * GB))


def test_weights_that_do_not_fit() -> None:
    found = room(model(15, 100_000), MACHINE)
    assert (found.fits, found.context_tokens) == (False, None)
    assert (found.weight_bytes, found.room_bytes) == (15 * GB, int(14.4 * GB))


def test_where_only_the_weights_are_known() -> None:
    assert room_for(2 * GB, MACHINE).fits
    assert room_for(2 * GB, MACHINE).context_tokens is None
    assert not room_for(20 * GB, MACHINE).fits


def test_what_a_machine_may_fill() -> None:
    def device(mlx_device: str, memory_gb: int) -> DeviceInfo:
        return DeviceInfo("", "", mlx_device, memory_gb * GB, 8, "", "")

    assert usable_bytes(device("CPU", 16)) == 16 * GB
    assert usable_bytes(device("Metal GPU", 24)) == 16 * GB
    assert usable_bytes(device("Metal GPU", 64)) == 48 * GB
