"""Models that 2 and 3 ranks can divide, and what one process answers with them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.config import ServerConfig
from tests import tiny
from tests.engine.ranks.battery import answered
from tests.families import FAMILIES

CHUNK_TOKENS = 64
SHAPE = {
    "hidden_size": 96,
    "num_attention_heads": 12,
    "num_key_value_heads": 6,
    "head_dim": 32,
    "intermediate_size": 192,
}


def divisible(family: str, folder: Path, dtype: tiny.Dtype = "float32") -> Path:
    """A tiny random model of this family with 12 heads, 6 of them with keys; written at first use."""
    path = folder / f"{family}-{dtype}-12-heads"
    if (path / "config.json").exists():
        return path
    tiny_one = FAMILIES[family]
    config: dict[str, Any] = tiny_one.config
    if "text_config" in config:
        tower = config["vision_config"] | {"out_hidden_size": SHAPE["hidden_size"]}
        config = config | {"text_config": config["text_config"] | SHAPE, "vision_config": tower}
    else:
        config = config | SHAPE
    return tiny.write(replace(tiny_one, config=config), family, dtype, path)


@pytest.fixture(scope="session")
def divisible_model(models_dir: Path) -> Callable[[str], Path]:
    """divisible_model(family) -> folder."""
    return lambda family: divisible(family, models_dir)


Alone = Callable[[str], Awaitable[dict[str, Any]]]


@pytest.fixture(scope="session")
def alone(divisible_model: Callable[[str], Path], engine_for: Any, serve: Any) -> Alone:
    """await alone(family) -> what this process answers by itself."""
    known: dict[str, dict[str, Any]] = {}

    async def ask(family: str) -> dict[str, Any]:
        if family not in known:
            from engine.api.app import create_app

            engine = await engine_for(divisible_model(family), prefill_chunk_tokens=CHUNK_TOKENS)
            with serve(create_app(engine, ServerConfig())) as url:
                known[family] = await answered(url, sees=engine.snapshot().model.vision)
        return known[family]

    return ask
