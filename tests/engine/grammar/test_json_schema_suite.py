"""JSON Schema's official test suite, the part that llguidance takes: what is written under a schema is valid under it,
whatever the weights say, and no text that the suite calls invalid could have been written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from engine.grammar.compile import Grammars
from engine.types import Grammar, Sampling
from tests.conftest import EngineFor
from tests.engine.drive import ask, chat

TinyModel = Callable[..., Path]
SUITE = json.loads(Path(__file__).with_name("json_schema_suite.json").read_text())["groups"]
ENDS = ('"', "}", "]", "<|im_end|>", "0", "1")


def invalid(schema: Any, text: str) -> list[str]:
    return [error.message for error in Draft202012Validator(schema).iter_errors(json.loads(text))]


async def written(engine: Any, schema: Any, bias: tuple[tuple[int, float], ...]) -> str | None:
    """What random weights write under a schema, with what ends values made likely; None where it was cut off, which
    says nothing."""
    grammar = Grammar("json_schema", json.dumps(schema))
    sampling = Sampling(temperature=1.0, seed=0, logit_bias=bias)
    answer = await ask(engine, chat("Write.", max_tokens=80, grammar=grammar, sampling=sampling))
    return answer.text if answer.done.finish_reason == "stop" else None


async def test_what_is_written_is_valid(tiny_model: TinyModel, engine_for: EngineFor) -> None:
    from transformers import AutoTokenizer

    folder = tiny_model("llama")
    engine, ids = await engine_for(folder), AutoTokenizer.from_pretrained(folder).get_vocab()
    bias = tuple((ids[word], 6.0) for word in ENDS)
    wrong, num_written = [], 0
    for begin in range(0, len(SUITE), 16):
        groups = SUITE[begin : begin + 16]
        texts = await asyncio.gather(*(written(engine, group["schema"], bias) for group in groups))
        for group, text in zip(groups, texts, strict=True):
            if text is not None:
                num_written += 1
                wrong += [(group["name"], text, why) for why in invalid(group["schema"], text)]
    assert wrong == []
    assert num_written > 0.75 * len(SUITE), "most answers ended by themselves"


def can_be_written(grammars: Grammars, tokenizer: Any, schema: Any, value: Any) -> bool:
    matcher = grammars.compile(Grammar("json_schema", json.dumps(schema))).matcher.deep_copy()
    ids = tokenizer.encode(json.dumps(value, ensure_ascii=False), add_special_tokens=False)
    return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()


def test_no_invalid_value_can_be_written_and_most_valid_ones_can(tokenizer: Any) -> None:
    """Not all of these: properties come in the schema's order."""
    grammars = Grammars(tokenizer, tokenizer.eos_token_ids)
    wrong, valid = [], []
    for group in SUITE:
        can = [can_be_written(grammars, tokenizer, group["schema"], value) for value in group["invalid"]]
        wrong += [(group["name"], value) for value, is_written in zip(group["invalid"], can, strict=True) if is_written]
        valid += [can_be_written(grammars, tokenizer, group["schema"], value) for value in group["valid"]]
    assert wrong == []
    assert sum(valid) > 0.9 * len(valid) > 200


def test_sabotage_a_schema_that_is_read_loosely_is_seen(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twin: the bounds of numbers are passed over, as where a compiler is told to be lenient."""
    from engine.grammar import compile as compiling

    read = compiling._json

    def loosely(schema: Any) -> str:
        kept = {name: value for name, value in schema.items() if name not in ("minimum", "maximum")}
        return read(kept if kept else {"type": "number"})

    monkeypatch.setattr(compiling, "_json", loosely)
    with pytest.raises(AssertionError, match="maximum validation"):
        test_no_invalid_value_can_be_written_and_most_valid_ones_can(tokenizer)
