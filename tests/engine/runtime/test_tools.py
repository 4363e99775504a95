"""Tools through the engine: forced calls are right on random weights, and in a batch each is as it is alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.config import CacheConfig
from engine.errors import BadRequest
from engine.grammar.follow import Follower
from engine.models.chat_format import PLAIN_TOOLS
from engine.types import Completion, Grammar, Request, Sampling, Tool, ToolCall, ToolChoice
from tests.conftest import EngineFor
from tests.engine.checkpoints import load
from tests.engine.drive import GREEDY, ask, chat, settled
from tests.engine.prompt.test_build import with_template
from tests.engine.prompt.test_tools import NATIVE
from tests.pictures import picture

TinyModel = Callable[..., Path]
COLD = CacheConfig(enabled=False)
FORCED = ToolChoice("required")
ONE = ToolChoice("required", parallel=False)


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


COUNT = Tool("count", "Counts.", schema(first={"type": "integer", "minimum": 0, "maximum": 99}))
PICK = Tool("pick", "Picks.", schema(color={"enum": ["red", "blue"]}, sure={"type": "boolean"}))
NOW = Tool('say "now"', "The time.", schema())
TOOLS = (COUNT, PICK, NOW)


def drawn(seed: int) -> Sampling:
    return Sampling(temperature=1.5, seed=seed)


def check_calls(completion: Completion, tools: tuple[Tool, ...]) -> None:
    """Every call is of a tool that may be called, with arguments of its schema; there is no other answer."""
    assert completion.tool_calls and completion.text == "", "no call"
    assert completion.choices[0].finish_reason == "tool_calls"
    for call in completion.tool_calls:
        tool = next((tool for tool in tools if tool.name == call.name), None)
        assert tool is not None, "an unknown tool"
        properties = (tool.parameters or {})["properties"]
        arguments = json.loads(call.arguments)
        assert arguments.keys() == properties.keys()
        for name, value in arguments.items():
            assert value in properties[name].get("enum", [value])
        assert call.arguments == json.dumps(arguments), "spaces of another kind"


@pytest.mark.parametrize("family", ["llama", "qwen3_vl", "gemma3"])
async def test_forced_calls_are_right_on_random_weights(
    engine_for: EngineFor, tiny_model: TinyModel, family: str
) -> None:
    engine = await engine_for(tiny_model(family))
    pieces = ("Do it.",) if family == "llama" else (picture("red"), "Do it.")
    requests = [
        chat(*pieces, max_tokens=900, sampling=drawn(seed), tools=TOOLS, tool_choice=choice)
        for seed, choice in enumerate((FORCED, ONE, ToolChoice("required", ("pick",), parallel=False), ONE))
    ]
    for request, answer in zip(requests, await asyncio.gather(*(ask(engine, r) for r in requests)), strict=True):
        check_calls(answer.completion, request.offered_tools)
        if not request.tool_choice.parallel:
            assert len(answer.completion.tool_calls) == 1


async def test_calls_may_be_several(engine_for: EngineFor, tiny_model: TinyModel) -> None:
    engine = await engine_for(tiny_model("llama"))
    answers = await asyncio.gather(
        *(
            ask(engine, chat("Do it.", max_tokens=1500, sampling=drawn(seed), tools=(NOW,), tool_choice=FORCED))
            for seed in range(4)
        )
    )
    assert max(len(answer.completion.tool_calls) for answer in answers) > 1
    for answer in answers:
        check_calls(answer.completion, (NOW,))
        assert len({call.id for call in answer.completion.tool_calls}) == len(answer.completion.tool_calls)


async def test_a_call_that_is_cut_off_ends_by_its_length(engine_for: EngineFor, tiny_model: TinyModel) -> None:
    engine = await engine_for(tiny_model("llama"))
    answer = await ask(engine, chat("Do it.", max_tokens=25, tools=(PICK,), tool_choice=ONE))
    assert answer.done.finish_reason == "length"


# -- calls that the model makes by itself ------------------------------------------------------------------------------


async def played(engine: Any, loaded: Any, text: str, **more: Any) -> Completion:
    """The answer that this text is, whatever the model would say."""
    forced = tuple(loaded.tokenizer.encode(text, add_special_tokens=False))
    request = chat("Do it.", max_tokens=len(forced), tools=TOOLS, forced=forced, **more)
    return (await ask(engine, request)).completion


async def test_calls_are_read_where_tools_are_offered_and_else_are_text(
    engine_for: EngineFor, tiny_model: TinyModel
) -> None:
    engine, loaded = await engine_for(tiny_model("llama")), load(tiny_model("llama"))
    text = 'Well.\n<tool_call>\n{"name": "count", "arguments": {"first": 1}}\n</tool_call>'
    read = await played(engine, loaded, text)
    (call,) = read.tool_calls
    assert (call.name, call.arguments, read.text.strip()) == ("count", '{"first": 1}', "Well.")
    assert (await played(engine, loaded, text, tool_choice=ToolChoice("none"))).text == text


async def test_an_answer_in_a_form_may_be_a_call_instead(engine_for: EngineFor, tiny_model: TinyModel) -> None:
    engine = await engine_for(tiny_model("llama"))
    call = '<tool_call>\n{"name": "count", "arguments": {"first": 7}}\n</tool_call>'
    forms = {
        Grammar("choice", json.dumps([call])): ToolCall("", "count", '{"first": 7}'),
        Grammar("choice", json.dumps(["yes/no", "no"])): None,
        Grammar("regex", "[a-c]{3}/\\d"): None,
        Grammar("json_schema", json.dumps(schema(a={"type": "boolean"}))): None,
    }
    num_texts = 0
    for form, expected in forms.items():
        for seed in range(3):
            request = chat("x", max_tokens=900, sampling=drawn(seed), tools=(COUNT,), grammar=form)
            completion = (await ask(engine, replace(request, tool_choice=ToolChoice(parallel=False)))).completion
            assert bool(completion.tool_calls) != bool(completion.text), "neither a call nor the form"
            num_texts += bool(completion.text)
            if completion.tool_calls:
                check_calls(completion, (COUNT,))
            if expected is not None:
                assert [replace(call, id="") for call in completion.tool_calls] == [expected], (
                    "not the call in the form"
                )
    assert num_texts, "no answer in a form"
    with pytest.raises(BadRequest, match="do not go together") as caught:
        await ask(
            engine, chat("x", tools=TOOLS, grammar=Grammar("grammar", 'start: "a"', "structured_outputs.grammar"))
        )
    assert caught.value.param == "structured_outputs.grammar"


@pytest.mark.parametrize("bad", [{"$ref": "#/nowhere"}, {"type": "strange"}, {"if": {"minimum": 3}}])
async def test_a_schema_that_cannot_be_kept_to_is_refused(
    engine_for: EngineFor, tiny_model: TinyModel, bad: dict[str, Any]
) -> None:
    """Where it must be; where the model calls as it likes it is only shown."""
    engine = await engine_for(tiny_model("llama"))
    tools = (COUNT, Tool("odd", "", schema(a=bad)))
    with pytest.raises(BadRequest, match=r"tools\[1\]") as caught:
        await ask(engine, chat("x", tools=tools, tool_choice=FORCED))
    assert caught.value.param == "tools[1].function.parameters"
    assert (await ask(engine, chat("x", tools=tools))).text


class Begun:
    """A sampler that says the beginning of an answer, and goes on as another does."""

    def __init__(self, first: list[int], then: Any) -> None:
        self._first = list(first)
        self._then = then

    def __call__(self, logprobs: Any) -> Any:
        import mlx.core as mx

        return mx.array([self._first.pop(0)], mx.uint32) if self._first else self._then(logprobs)


STRICT = tuple(replace(tool, strict=True) for tool in TOOLS)
OPENED = "Well, <tool_call>"
BEGINS = 100


def begin_calls(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """From now on answers with a seed from BEGINS on begin with words and the mark of a call, as if their model had
    chosen to."""
    from engine.models import sampling

    make, first = sampling.make_sampler, load(folder).tokenizer.encode(OPENED, add_special_tokens=False)

    def begun(asked: Sampling, *rest: Any) -> Any:
        sampler = make(asked, *rest)
        return Begun(first, sampler) if (asked.seed or 0) >= BEGINS else sampler

    monkeypatch.setattr(sampling, "make_sampler", begun)


async def check_begun(engine: Any) -> None:
    """Calls that the model begins by itself follow their schemas, in a batch beside plain answers."""
    held = [chat("Do it.", max_tokens=900, sampling=drawn(BEGINS + i), tools=STRICT) for i in range(4)]
    answers = await asyncio.gather(*(ask(engine, request) for request in [*held, *mixed(4)]))
    for answer in answers[: len(held)]:
        completion = answer.completion
        assert completion.text.strip().startswith("Well,") and completion.tool_calls, "no call by itself"
        first = completion.tool_calls[0]
        tool = next((tool for tool in STRICT if tool.name == first.name), None)
        assert tool is not None, "no call by itself"
        arguments = json.loads(first.arguments)
        assert arguments.keys() == (tool.parameters or {})["properties"].keys()


async def test_strict_calls_that_the_model_begins_are_held(
    engine_for: EngineFor, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await engine_for(tiny_model("llama"))
    begin_calls(monkeypatch, tiny_model("llama"))
    await check_begun(engine)


async def test_sabotage_calls_that_nobody_holds_are_seen(
    engine_for: EngineFor, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.grammar.calls import CallFollower

    engine = await engine_for(tiny_model("llama"))
    begin_calls(monkeypatch, tiny_model("llama"))
    monkeypatch.setattr(CallFollower, "allowed", lambda self: None)
    monkeypatch.setattr(CallFollower, "accept", lambda self, token: None)
    with pytest.raises(AssertionError, match="no call by itself"):
        await check_begun(engine)


async def test_strict_calls_of_a_model_with_a_way_of_its_own_are_refused(
    engine_for: EngineFor, tiny_model: TinyModel, tmp_path: Path
) -> None:
    template = NATIVE.replace("<tool_call>", "<tool_call>\n<function=")
    assert not with_template(tiny_model("llama"), tmp_path / "m", template).tools.is_json
    engine = await engine_for(tmp_path / "m")
    with pytest.raises(BadRequest, match="in a way of its own") as caught:
        await ask(engine, chat("x", tools=STRICT))
    assert caught.value.param == "tools.strict"
    assert (await ask(engine, chat("x", tools=STRICT, tool_choice=ONE, max_tokens=200))).completion.tool_calls
    assert (await ask(engine, chat("x", tools=TOOLS))).text


# -- in a batch --------------------------------------------------------------------------------------------------------


def mixed(n: int = 8) -> list[Request]:
    """Forced calls, other forms and plain requests, of many lengths, so that rows come and go."""
    kinds: list[dict[str, Any]] = [
        {"tools": TOOLS, "tool_choice": ONE, "max_tokens": 200},
        {"max_tokens": 9},
        {"tools": (PICK, COUNT), "tool_choice": FORCED, "max_tokens": 60},
        {"grammar": Grammar("regex", "[0-9]{4}"), "max_tokens": 30},
        {"tools": TOOLS, "max_tokens": 17},
    ]
    return [chat(f"Request {i}.", sampling=drawn(i) if i % 3 else GREEDY, **kinds[i % len(kinds)]) for i in range(n)]


async def alone(engine: Any) -> list[Completion]:
    return [(await ask(engine, request)).completion for request in mixed()]


async def check_batch(engine: Any, expected: list[Completion]) -> None:
    together = await asyncio.gather(*(ask(engine, request) for request in mixed()), return_exceptions=True)
    for mine, other in zip(expected, together, strict=True):
        assert not isinstance(other, BaseException), "an answer differs from the one alone"
        assert mine.token_ids == other.token_ids, "an answer differs from the one alone"
        assert shape(mine) == shape(other.completion), "an answer differs from the one alone"
    assert any(completion.tool_calls for completion in expected)
    assert not (await settled(engine)).running


def shape(completion: Completion) -> Any:
    """All of it but the ids of calls."""
    calls = [(call.name, call.arguments) for call in completion.tool_calls]
    return completion.text, calls, completion.choices[0].finish_reason


@pytest.mark.parametrize("family", ["llama", "gemma3"])
async def test_in_a_batch_of_eight_each_is_as_it_is_alone(
    engine_for: EngineFor, tiny_model: TinyModel, family: str
) -> None:
    engine = await engine_for(tiny_model(family), cache=COLD)
    await check_batch(engine, await alone(engine))


async def test_sabotage_rows_that_share_a_grammar_are_seen(
    engine_for: EngineFor, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twin: every row's place in its grammar is that of the row before."""
    allowed = Follower.allowed
    last: list[Any] = [None]

    def of_another(self: Follower) -> Any:
        mine, last[0] = last[0], allowed(self)
        return last[0] if mine is None else mine

    engine = await engine_for(tiny_model("llama"), cache=COLD)
    expected = await alone(engine)
    monkeypatch.setattr(Follower, "allowed", of_another)
    with pytest.raises(AssertionError, match="differs from the one alone"):
        await check_batch(engine, expected)


def test_the_marks_of_forced_calls_are_those_that_are_read() -> None:
    from engine.grammar.tools import answer_grammar

    grammar = answer_grammar(chat("x", tools=TOOLS, tool_choice=FORCED))
    assert grammar is not None and PLAIN_TOOLS.start in grammar.source and PLAIN_TOOLS.end in grammar.source
    assert answer_grammar(chat("x", tools=TOOLS)) is None
