"""The builder of tiny models is itself worth a check: what it writes is always the same, and it tells prompts apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.config import EngineConfig, ModelSpec
from engine.models import registry
from tests import tiny
from tests.families import FAMILIES


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("family", ["llama", "qwen3_vl"])
def test_a_model_is_its_seeds(tmp_path: Path, family: str) -> None:
    first = tiny.build(family, "float32", tmp_path / "a")
    assert files(first) == files(tiny.build(family, "float32", tmp_path / "b"))
    other = tiny.build(family, "float32", tmp_path / "c", seed=1)
    assert files(first)["model.safetensors"] != files(other)["model.safetensors"]


@pytest.mark.parametrize("kind", ["text", "vision"])
def test_sized_models_load_and_have_their_size(tmp_path: Path, kind: Any) -> None:
    small, large = (tiny.sized(kind, hidden, 2, tmp_path) for hidden in (64, 256))
    cards = [registry.load(EngineConfig(model=ModelSpec(str(folder)))).card for folder in (small, large)]
    assert cards[0].num_params * 4 < cards[1].num_params
    assert cards[0].vision == (kind == "vision")


@pytest.mark.parametrize("dtype", tiny.DTYPES)
def test_a_vision_model_fits_in_a_small_repository(tmp_path: Path, dtype: tiny.Dtype) -> None:
    for family in FAMILIES.keys() - {"paddleocr_vl"}:  # its projector gives 1024 numbers, however it is configured
        folder = tiny.build(family, dtype, tmp_path)
        assert sum(len(content) for content in files(folder).values()) < 4_000_000, family
