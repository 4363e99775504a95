"""A tokenizer whose vocabulary grammars are compiled for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def tokenizer(tiny_model: Callable[..., Path]) -> Any:
    """That of a tiny model, with two tokens that end an answer."""
    from mlx_lm.tokenizer_utils import load

    return load(tiny_model("llama"), {}, eos_token_ids=[0, 2])
