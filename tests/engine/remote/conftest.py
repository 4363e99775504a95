"""An engine whose model another server answers for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine.config import EngineConfig, ModelSpec
from engine.core import Engine
from engine.types import RemoteServer

EngineAt = Callable[..., Engine]


@pytest.fixture
def engine_at() -> Iterator[EngineAt]:
    """engine_at(url, key, model, more_models=(), **EngineConfig fields): a started engine that asks that server."""
    made: list[Engine] = []

    def make(url: str, key: str | None = None, model: str | None = None, **settings: Any) -> Engine:
        spec = ModelSpec.remote(RemoteServer.at(url, key, model), "far")
        engine = Engine(EngineConfig(model=spec, **settings))
        engine.start()
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.finish_imports()  # its thread must not be in the middle of them when the process ends
        engine.stop()
