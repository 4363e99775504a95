"""families, listing: the table says what is so, and the documents say what the table says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.cache import tensors
from engine.cache.features import FeatureStore
from engine.config import EngineConfig, ModelSpec
from engine.models import registry
from engine.models.families import FAMILIES as ROWS
from engine.models.families import UNKNOWN, family
from engine.models.families_table import markdown, table
from tests.conftest import ROOT
from tests.families import APART, FAMILIES, VISION

TinyModel = Callable[..., Path]


def test_every_family_that_counts_as_tested_has_a_tiny_model() -> None:
    tested = {name for name, row in ROWS.items() if row.tested and not row.refused}
    assert tested == {*VISION, *APART}


def test_every_row_has_a_name_and_a_line() -> None:
    assert all(row.name for row in ROWS.values())
    assert {line.model_type for line in table()} == {f"`{name}`" for name in ROWS}


@pytest.mark.parametrize("name", VISION)
def test_the_row_is_what_the_model_is(tiny_model: TinyModel, name: str) -> None:
    """Blocks or snapshots, pictures, clips and sound, and a tower that can be stopped between two layers: from the
    loaded model, not from the table."""
    loaded = registry.load(EngineConfig(model=ModelSpec(str(tiny_model(name)))))
    row, tiny = family(name), FAMILIES[name]
    assert tensors.is_plain(loaded.adapter.make_cache()) == (not row.snapshots)
    assert loaded.adapter.interleave(lambda: False, lambda: None) > 1, (
        "its tower would keep the rows that decode waiting"
    )
    assert loaded.adapter.cache_vision_features(FeatureStore(1)) == row.packed
    assert row.images_per_prompt == tiny.max_images
    assert row.native_video == (tiny.video is not None)
    assert loaded.card.audio == (row.audios_per_prompt != 0) == (tiny.audio is not None)


def test_a_hyphen_in_a_model_type_is_the_same_family() -> None:
    assert family("lfm2-vl") is family("lfm2_vl") is not UNKNOWN
    assert family("no-such") is UNKNOWN


def test_a_sheet_of_the_table() -> None:
    lines = {line.family: line for line in table()}
    assert (lines["Gemma 4"].clips, lines["Gemma 4"].sound) == ("native", "any number, each up to 30 s")
    assert (lines["PaliGemma"].decodes, lines["PaliGemma"].prefix_cache) == ("one at a time", "none")
    assert (lines["Molmo"].pictures, lines["Molmo"].clips) == ("1", "no")
    assert lines["Qwen3-VL"].vision_features == "by picture and pair of frames"
    assert lines["Gemma 3"].vision_features.startswith("no: ") and lines["Ultravox"].vision_features == "–"
    assert lines["Ultravox"].note == "refused: mlx-vlm has no implementation of it"
    assert [line.note.startswith("refused") for line in table()] == sorted(
        line.note.startswith("refused") for line in table()
    )


def test_the_documents_have_this_table() -> None:
    page = ROOT / "assets" / "docs" / "families.md"
    between = re.search(r"<!-- families -->\n(.*?)\n<!-- /families -->", page.read_text(), re.DOTALL)
    assert between, "families.md has lost the marks around its table"
    assert between[1] == markdown(), "put the output of `vllm-mlx families` between the marks in families.md"
