"""Answers that are held to something: each is as it would be alone, whatever comes and goes beside it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.config import CacheConfig
from engine.errors import BadRequest, Internal
from engine.grammar.follow import Follower
from engine.types import Grammar, Request, Sampling
from tests.conftest import EngineFor
from tests.engine.drive import ask, chat, settled

TinyModel = Callable[..., Path]
COLD = CacheConfig(enabled=False)
SEEDED = Sampling(temperature=1.0, seed=12)
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b", "c"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
SCHEMA = Grammar("json_schema", json.dumps(PERSON))
DATE = Grammar("regex", r"[12][0-9]{3}-[01][0-9]-[0-3][0-9]")
WORDS = Grammar("choice", json.dumps(["yes", "no", " perhaps so", "é🙂"]))
SUM = Grammar("grammar", 'root ::= num (" + " num){1,3}\nnum ::= [0-9]{1,4}')


def is_person(text: str) -> bool:
    person = json.loads(text)
    return (
        set(person) == set(PERSON["properties"])  # type: ignore[call-overload]
        and len(person["name"]) <= 8
        and 0 <= person["age"] <= 150
        and set(person["tags"]) <= set("abc")
    )


FORMS: dict[str, tuple[Grammar, Callable[[str], Any]]] = {
    "schema": (SCHEMA, is_person),
    "regex": (DATE, re.compile(r"[12][0-9]{3}-[01][0-9]-[0-3][0-9]").fullmatch),
    "choice": (WORDS, json.loads(WORDS.source).__contains__),
    "grammar": (SUM, re.compile(r"[0-9]{1,4}( \+ [0-9]{1,4}){1,3}").fullmatch),
}


def held(form: str, seed: int = 11, **more: Any) -> Request:
    return chat(
        "Tell me.", max_tokens=400, sampling=Sampling(temperature=1.0, seed=seed), grammar=FORMS[form][0], **more
    )


@pytest.mark.parametrize("form", FORMS)
async def test_an_answer_keeps_to_its_form_and_ends_by_itself(
    tiny_model: TinyModel, engine_for: EngineFor, form: str
) -> None:
    engine = await engine_for(tiny_model("llama"))
    answers = await asyncio.gather(*(ask(engine, held(form, seed)) for seed in range(6)))
    for answer in answers:
        assert FORMS[form][1](answer.text), answer.text
        assert answer.done.finish_reason == "stop"
    assert len({answer.text for answer in answers}) > 1, "random weights say different things"


MIXED = {
    "schema": held("schema"),
    "plain": chat("A plain one.", max_tokens=30, sampling=SEEDED),
    "regex": held("regex", 3),
    "penalties": chat(
        "Penalties.", max_tokens=40, sampling=replace(SEEDED, presence_penalty=1.5, frequency_penalty=1.0)
    ),
    "choice": held("choice", 5),
    "bias": chat("Bias.", max_tokens=30, sampling=replace(SEEDED, logit_bias=((40, 8.0), (41, -50.0)))),
    "logprobs": chat("Logprobs.", max_tokens=25, logprobs=3),
    "repetition": chat("Repetition.", max_tokens=35, sampling=replace(SEEDED, repetition_penalty=1.3)),
    "grammar": held("grammar", 7, logprobs=2),
    "words": chat("Words.", max_tokens=30, sampling=SEEDED, bad_words=("e", "the"), min_tokens=20),
    "choices": held("schema", 9, n=2),
}


async def check_alone_and_together(engine: Any) -> None:
    """Each request alone, and then all of them, coming at different times, in a batch of eight with others."""
    alone = {name: await ask(engine, request) for name, request in MIXED.items()}
    delays = [0.01 * (i % 5) for i in range(len(MIXED))]
    together = await asyncio.gather(*(ask(engine, r, d) for r, d in zip(MIXED.values(), delays, strict=True)))
    for name, answer in zip(MIXED, together, strict=True):
        assert said(answer) == said(alone[name]), f"{name} differs from what it is alone"
        for one, other in zip(answer.tokens, alone[name].tokens, strict=True):
            assert one.logprob == pytest.approx(other.logprob, abs=1e-3)
    assert not (await settled(engine)).running


def said(answer: Any) -> list[Any]:
    return [(choice.token_ids, choice.finish_reason) for choice in answer.completion.choices]


@pytest.mark.parametrize("family", ["llama", "qwen3_vl", "gemma3"])
async def test_each_is_the_one_alone(
    tiny_model: TinyModel, engine_for: EngineFor, family: str, steps: list[int]
) -> None:
    engine = await engine_for(tiny_model(family), cache=COLD, completion_batch_size=8)
    await check_alone_and_together(engine)
    assert max(steps) == 8, "the batch was not full"


async def test_sabotage_rows_that_share_a_grammar_are_seen(
    tiny_model: TinyModel, engine_for: EngineFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twin: the mask of one row is that of whoever asked last, as in servers that keep one processor for all rows."""
    shared: list[Any] = []
    allowed = Follower.allowed

    def stale(self: Follower) -> Any:
        shared.append(allowed(self))
        return shared[-2] if len(shared) > 1 else shared[-1]

    engine = await engine_for(tiny_model("llama"), cache=COLD, completion_batch_size=8)
    requests = (held("schema"), held("regex", 3))
    alone = [said(await ask(engine, request)) for request in requests]

    async def check() -> None:
        together = await asyncio.gather(*(ask(engine, request) for request in requests), return_exceptions=True)
        for mine, other in zip(alone, together, strict=True):
            assert not isinstance(other, BaseException) and said(other) == mine, "differs from what it is alone"

    await check()
    monkeypatch.setattr(Follower, "allowed", stale)
    with pytest.raises(AssertionError, match="differs from what it is alone"):
        await check()


async def test_a_plain_answer_after_a_constrained_one_is_plain(tiny_model: TinyModel, engine_for: EngineFor) -> None:
    engine = await engine_for(tiny_model("llama"), cache=COLD)
    plain = chat("Tell me.", max_tokens=30, sampling=SEEDED)
    before = await ask(engine, plain)
    await ask(engine, held("schema"))
    beside, after = await asyncio.gather(ask(engine, held("schema")), ask(engine, plain))
    assert said(after) == said(before) and is_person(beside.text)


async def test_what_is_cached_is_the_same_with_and_without(tiny_model: TinyModel, engine_for: EngineFor) -> None:
    engine = await engine_for(tiny_model("llama"))
    prompt = "word " * 100
    cold = await ask(engine, replace(held("schema"), messages=chat(prompt).messages))
    warm = await ask(engine, replace(held("schema"), messages=chat(prompt).messages))
    assert warm.done.usage.cached_tokens > 64 and said(warm) == said(cold)


# -- ends --------------------------------------------------------------------------------------------------------------


async def test_the_end_of_the_form_counts_more_than_min_tokens(tiny_model: TinyModel, engine_for: EngineFor) -> None:
    engine = await engine_for(tiny_model("llama"))
    short = await ask(engine, held("choice", min_tokens=50))
    assert short.text in json.loads(WORDS.source) and short.done.finish_reason == "stop"
    digits = Grammar("regex", "[0-9]+")
    request = replace(held("choice", min_tokens=12), grammar=digits, max_tokens=60)
    free = await ask(engine, replace(request, min_tokens=0, sampling=Sampling(temperature=5.0, seed=1)))
    bound = await ask(engine, replace(request, sampling=Sampling(temperature=5.0, seed=1)))
    assert len(bound.tokens) >= 12 and bound.text.isdigit() and len(free.tokens) < 12


async def test_ignore_eos_goes_on_to_the_limit(tiny_model: TinyModel, engine_for: EngineFor) -> None:
    engine = await engine_for(tiny_model("llama"))
    bias = Sampling(temperature=0.0, logit_bias=((2, 100.0),))
    assert len((await ask(engine, chat("Hi.", sampling=bias))).tokens) == 1
    going = await ask(engine, chat("Hi.", sampling=bias, max_tokens=9, ignore_eos=True))
    assert going.token_ids == (2,) * 9 and going.text == "" and going.done.finish_reason == "length"
    with pytest.raises(BadRequest, match="ignore_eos"):
        await ask(engine, held("schema", ignore_eos=True))


async def test_a_stop_token_of_the_request_ends_it(tiny_model: TinyModel, engine_for: EngineFor) -> None:
    engine = await engine_for(tiny_model("llama"))
    whole = await ask(engine, chat("Hi.", max_tokens=20, sampling=SEEDED))
    stop = whole.token_ids[6]
    at = whole.token_ids.index(stop)
    request = chat("Hi.", max_tokens=20, sampling=SEEDED, stop_token_ids=(stop,))
    beside, cut = await asyncio.gather(ask(engine, chat("Hi.", max_tokens=20, sampling=SEEDED)), ask(engine, request))
    assert cut.token_ids == whole.token_ids[: at + 1] and cut.done.finish_reason == "stop"
    assert whole.text.startswith(cut.text) and said(beside) == said(whole)
    with pytest.raises(BadRequest, match="stop_token_ids: token id 99999 is outside the vocabulary"):
        await ask(engine, chat("Hi.", stop_token_ids=(99999,)))


@pytest.mark.parametrize("num_tokens", [1, 2])
async def test_bad_words_do_not_come(tiny_model: TinyModel, engine_for: EngineFor, num_tokens: int) -> None:
    """Also those of several tokens, whose beginnings may come."""
    from transformers import AutoTokenizer

    folder = tiny_model("llama")
    engine, tokenizer = await engine_for(folder), AutoTokenizer.from_pretrained(folder)
    free = await ask(engine, chat("Hi.", max_tokens=60, sampling=SEEDED))
    word, at = next(
        (text, i)
        for i in range(10, 50)
        for ids in [list(free.token_ids[i : i + num_tokens])]
        for text in [tokenizer.decode(ids)]
        if text.strip() and tokenizer.encode(text, add_special_tokens=False) == ids
    )
    bound = await ask(engine, chat("Hi.", max_tokens=60, sampling=SEEDED, bad_words=(word,)))
    ids, last = bound.token_ids, at + num_tokens - 1
    assert not any(ids[i : i + num_tokens] == free.token_ids[at : last + 1] for i in range(60))
    assert num_tokens == 1 or set(ids) & set(free.token_ids[at:last]), "its beginning came"


async def test_all_that_is_left_of_the_context(tiny_model: TinyModel, engine_for: EngineFor) -> None:
    engine = await engine_for(tiny_model("llama"), max_model_len=64, max_tokens=5)
    request = chat("Hi.", max_tokens=-1, ignore_eos=True)
    answer = await ask(engine, request)
    assert answer.done.usage.total_tokens == 64 and answer.done.finish_reason == "length"
    assert len((await ask(engine, replace(request, max_tokens=None))).tokens) == 5


# -- faults ------------------------------------------------------------------------------------------------------------


async def test_what_cannot_be_compiled_is_refused_before_anything_runs(
    tiny_model: TinyModel, engine_for: EngineFor, steps: list[int]
) -> None:
    engine = await engine_for(tiny_model("llama"))
    with pytest.raises(BadRequest, match=r"^guided_regex: .*unclosed group") as caught:
        await ask(engine, chat("Hi.", grammar=Grammar("regex", "(a", "guided_regex")))
    assert caught.value.param == "guided_regex" and caught.value.code == "invalid_grammar"
    assert steps == []


async def test_a_form_that_becomes_too_complex_ends_its_own_answer(
    tiny_model: TinyModel, engine_for: EngineFor
) -> None:
    engine = await engine_for(tiny_model("llama"), cache=COLD)
    plain = chat("Tell me.", max_tokens=30, sampling=SEEDED)
    before = await ask(engine, plain)
    hard = chat("Hi.", grammar=Grammar("regex", "(((a{1000}){1000}){1000})", "guided_regex"))
    failed, after = await asyncio.gather(ask(engine, hard), ask(engine, plain), return_exceptions=True)
    assert isinstance(failed, BadRequest) and failed.code == "invalid_grammar" and "guided_regex" in failed.message
    assert said(after) == said(before)
    assert is_person((await ask(engine, held("schema"))).text)


async def test_a_library_that_fails_in_the_middle_ends_one_answer(
    tiny_model: TinyModel, engine_for: EngineFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.grammar import follow

    engine = await engine_for(tiny_model("llama"), cache=COLD)
    plain = chat("Tell me.", max_tokens=30, sampling=SEEDED)
    before = await ask(engine, plain)
    fill, calls = follow.fill_next_token_bitmask, []

    def broken(*args: Any) -> None:
        calls.append(args)
        if len(calls) == 4:
            raise MemoryError("no room for a mask")
        fill(*args)

    monkeypatch.setattr(follow, "fill_next_token_bitmask", broken)
    failed, after = await asyncio.gather(ask(engine, held("schema")), ask(engine, plain), return_exceptions=True)
    assert isinstance(failed, Internal) and "no room" not in failed.message
    assert said(after) == said(before)
    assert is_person((await ask(engine, held("schema"))).text)
