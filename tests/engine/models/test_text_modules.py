"""modules.json: what a folder says of vectors and scores, and what is refused in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.models.text_modules import TextModules

ROOT = "sentence_transformers."


def folder(tmp_path: Path, kind: str = "Pooling", *more: str, **settings: Any) -> Path:
    modules = [{"path": "", "type": f"{ROOT}models.Transformer"}]
    modules += [{"path": f"{i}_{name}", "type": f"{ROOT}models.{name}"} for i, name in enumerate((kind, *more), 1)]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / f"1_{kind}").mkdir()
    (tmp_path / f"1_{kind}" / "config.json").write_text(json.dumps(settings))
    return tmp_path


@pytest.mark.parametrize(
    ("settings", "pooling"),
    [
        ({"pooling_mode": "lasttoken", "embedding_dimension": 8}, "lasttoken"),
        ({"pooling_mode": ["mean"], "embedding_dimension": 8}, "mean"),
        ({"pooling_mode_lasttoken": True, "word_embedding_dimension": 8}, "lasttoken"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False, "word_embedding_dimension": 8}, "mean"),
        ({"pooling_mode_cls_token": True, "word_embedding_dimension": 8}, "cls"),
    ],
)
def test_pooling_in_both_spellings(tmp_path: Path, settings: dict[str, Any], pooling: str) -> None:
    found = TextModules.read(folder(tmp_path, "Pooling", "Normalize", **settings), {})
    assert (found.pooling, found.width, found.tokens, found.why_not) == (pooling, 8, None, "")


def test_two_tokens(tmp_path: Path) -> None:
    found = TextModules.read(folder(tmp_path, "LogitScore", true_token_id=9, false_token_id=4), {})
    assert (found.tokens, found.pooling, found.why_not) == ((9, 4), None, "")


def test_prompts_and_limits(tmp_path: Path) -> None:
    where = folder(tmp_path, pooling_mode="lasttoken", embedding_dimension=8)
    about = {"prompts": {"query": "Q: ", "document": ""}, "default_prompt_name": "query"}
    (where / "config_sentence_transformers.json").write_text(json.dumps(about))
    (where / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 512}))
    found = TextModules.read(where, {})
    assert (found.prompts, found.default_prompt, found.max_tokens) == ({"query": "Q: "}, "query", 512)


@pytest.mark.parametrize(
    ("kinds", "settings", "config", "why"),
    [
        (("Pooling", "Dense"), {"pooling_mode": "mean"}, {}, "lists Transformer, Pooling, Dense"),
        (("Dense",), {}, {}, "lists Transformer, Dense"),
        (("Pooling",), {"pooling_mode": "max"}, {}, "pooling is max"),
        (("Pooling",), {"pooling_mode": ["mean", "cls"]}, {}, "mean with cls"),
        (("Pooling",), {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True}, {}, "mean with"),
        (("Pooling",), {}, {}, "not said"),
        (("Pooling",), {"pooling_mode": "mean"}, {}, "how many numbers"),
        (("LogitScore",), {"true_token_id": 9}, {}, "compares no two tokens"),
        (("LogitScore",), {"true_token_id": True, "false_token_id": 1}, {}, "compares no two tokens"),
        (("Pooling",), {"pooling_mode": "mean"}, {"use_bidirectional_attention": True}, "those behind them"),
        (("Pooling",), {"pooling_mode": "mean"}, {"is_causal": False}, "those behind them"),
    ],
)
def test_what_is_not_read_says_why(
    tmp_path: Path, kinds: tuple[str, ...], settings: dict[str, Any], config: dict[str, Any], why: str
) -> None:
    found = TextModules.read(folder(tmp_path, *kinds, **settings), config)
    assert found.pooling is None and found.tokens is None and why in found.why_not


def test_a_plain_folder_says_what_is_missing(tmp_path: Path) -> None:
    assert "modules.json" in TextModules.read(tmp_path, {}).why_not


@pytest.mark.parametrize(
    "written", ["", "[1]", "{}", '[{"type": 1}]', "[" * 100_000, '[{"path": "../..", "type": "a.Pooling"}]']
)
def test_any_file_is_survived(tmp_path: Path, written: str) -> None:
    (tmp_path / "modules.json").write_text(written)
    assert TextModules.read(tmp_path, {}).why_not
