"""mlx_memory: what MLX may keep of freed arrays, and when an idle engine gives it back."""

from __future__ import annotations

from types import SimpleNamespace

import mlx.core as mx
import pytest

from engine.models import mlx_memory
from engine.runtime.thread import EngineThread


def test_memory_goes_back_after_a_minute_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before: who asks again soon would have to get it anew."""
    returned: list[int] = []
    alone = SimpleNamespace(_line=None)  # no other ranks
    for num_idle_s in range(130):
        monkeypatch.setattr(mlx_memory, "return_memory", lambda at=num_idle_s: returned.append(at))
        EngineThread._idle(alone, num_idle_s)  # type: ignore[arg-type]
    assert returned == [59, 119]


@pytest.mark.parametrize(("kind", "expected"), [(mx.cpu, 256 * 2**20), (mx.gpu, 4 * 2**30)])
def test_what_mlx_may_keep(monkeypatch: pytest.MonkeyPatch, kind: mx.DeviceType, expected: int) -> None:
    limits: list[int] = []
    monkeypatch.setattr(mx, "set_cache_limit", limits.append)
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(kind))
    monkeypatch.setattr(mlx_memory, "device_bytes", lambda: 2**40)
    mlx_memory.limit_mlx_cache()
    monkeypatch.setattr(mlx_memory, "device_bytes", lambda: 2**30)
    mlx_memory.limit_mlx_cache()
    assert limits == [expected, 2**26]
