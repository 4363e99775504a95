"""The KV of a token as config.json tells it, against what the engine measures of each family that has a tiny model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.inventory.checkpoint_facts import read_checkpoint
from engine.inventory.kv_size import MAX_LAYERS, token_numbers
from engine.models.mlx_memory import token_sizes
from tests.engine.checkpoints import load
from tests.families import FAMILIES

TinyModel = Callable[..., Path]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_formula_is_what_the_engine_measures(name: str, tiny_model: TinyModel) -> None:
    folder = tiny_model(name)
    loaded = load(folder)
    measured = sum(token_sizes(loaded.adapter).values())
    found = read_checkpoint(folder)
    assert measured > 0
    assert found.token_bytes == measured
    assert found.problems == ()


@pytest.mark.parametrize("dtype", ["bfloat16", "4bit"])
def test_the_type_of_its_floats_counts(dtype: str, tiny_model: TinyModel) -> None:
    folder = tiny_model("qwen3", dtype)
    loaded = load(folder)
    found = read_checkpoint(folder)
    assert found.token_bytes == sum(token_sizes(loaded.adapter).values())
    assert found.weight_bytes == loaded.card.num_bytes


def test_latent_attention_keeps_the_latent_vector() -> None:
    config = {"model_type": "deepseek_v3", "num_hidden_layers": 61, "num_attention_heads": 128, "hidden_size": 7168}
    assert token_numbers(config | {"kv_lora_rank": 512, "qk_rope_head_dim": 64}) == 61 * (512 + 64)


def test_more_layers_than_any_model_has_are_no_number() -> None:
    """A list of the kinds of all layers is made, whatever a file from outside says."""
    config = {"num_hidden_layers": MAX_LAYERS, "num_attention_heads": 2, "hidden_size": 64}
    assert token_numbers(config) == MAX_LAYERS * 128
    assert token_numbers(config | {"num_hidden_layers": MAX_LAYERS + 1}) == 0


def test_a_config_without_sizes(tmp_path: Path) -> None:
    assert token_numbers(json.loads('{"model_type": "x"}')) == 0
