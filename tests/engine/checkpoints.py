"""Checkpoints in the tests' own thread, loaded once for all the tests of a process: a tiny model takes longer to load
than most of what is asked of it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from engine.config import EngineConfig, ModelSpec
from engine.models import registry

MOST = 100
"""Checkpoints that are kept. There is a tiny one of every family."""


@lru_cache(MOST)
def load(folder: Path) -> registry.Loaded:
    """As the engine loads it, for whoever changes neither it nor its folder; others have `fresh`."""
    return fresh(folder)


def fresh(folder: Path) -> registry.Loaded:
    return registry.load(EngineConfig(model=ModelSpec(str(folder))))
