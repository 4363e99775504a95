"""Calls that a model begins by itself: free before the mark, held behind it, free again behind the end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.errors import BadRequest
from engine.grammar.budget import ReasoningMarks
from engine.grammar.calls import CallFollower, holds_calls
from engine.grammar.compile import Grammars
from engine.grammar.follow import ThinkTokens
from engine.types import Grammar, Request, Tool, ToolChoice

ADD = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
STRICT, LOOSE = Tool("add", "", ADD, strict=True), Tool("say", "", ADD)
START, END = "<tool_call>", "</tool_call>"


def request(*tools: Tool, **more: Any) -> Request:
    return Request(tools=tools, **more)


@pytest.fixture
def grammars(tokenizer: Any) -> Grammars:
    return Grammars(tokenizer, tokenizer.eos_token_ids, END)


def follower(grammars: Grammars, *tools: Tool, think: ThinkTokens | None = None) -> CallFollower:
    marks = ReasoningMarks(think, in_reasoning=True) if think else None
    return CallFollower(grammars.compile_calls(request(*tools)), START, marks)


def write(tokenizer: Any, into: CallFollower, text: str) -> str:
    """How much of a text may be written, token by token."""
    written: list[int] = []
    for token in tokenizer.encode(text, add_special_tokens=False):
        allowed = into.allowed()
        if allowed is not None and not allowed[token]:
            break
        into.accept(token)
        if into.error:
            break
        written.append(token)
    return str(tokenizer.decode(written))


CALL = START + '\n{"name": "add", "arguments": {"a": 12}}\n' + END


@pytest.mark.parametrize(
    "text",
    [
        "Anything, and <tool_cal is no mark.",
        CALL,
        f"First {CALL} and then\n{CALL} and so on",
        START + '{"name":"add","arguments":{"a":1}}' + END,
        START + ' { "name" : "say" , "arguments" : {"b": [1, "x"]} } ' + END,
    ],
)
def test_what_may_be_written(tokenizer: Any, grammars: Grammars, text: str) -> None:
    held = follower(grammars, STRICT, LOOSE)
    assert write(tokenizer, held, text) == text and held.allowed() is None and held.error is None


@pytest.mark.parametrize(
    ("text", "until"),
    [
        (CALL.replace("12", '"x"'), "12"),
        (CALL.replace('"a"', '"b"'), '"a"'),
        (CALL.replace("add", "sub"), "add"),
        (CALL.replace("12}", "12, "), "}"),
        (START + "I mean", "I"),
    ],
)
def test_what_may_not(tokenizer: Any, grammars: Grammars, text: str, until: str) -> None:
    held = follower(grammars, STRICT)
    assert len(write(tokenizer, held, text)) < len(text), f"it went on behind {until}"


def test_a_call_may_not_end_the_answer_in_its_middle(tokenizer: Any, grammars: Grammars) -> None:
    held = follower(grammars, STRICT)
    write(tokenizer, held, START + '{"name"')
    allowed = held.allowed()
    assert allowed is not None and not any(allowed[token] for token in tokenizer.eos_token_ids)


def test_in_reasoning_a_mark_opens_nothing(tokenizer: Any, grammars: Grammars) -> None:
    close = tuple(tokenizer.encode("=>", add_special_tokens=False))
    held = follower(grammars, STRICT, think=ThinkTokens((1, 2, 3), close))
    write(tokenizer, held, START + "what if?")
    assert held.allowed() is None, "a thought was held"
    for token in close:
        held.accept(token)
    write(tokenizer, held, START)
    assert held.allowed() is not None


def test_a_token_over_the_border(tokenizer: Any, grammars: Grammars) -> None:
    """What it reaches over the mark with is read as the call's beginning."""
    held = follower(grammars, STRICT)
    held._look_for_start(b'x<tool_call>\n{"na')
    assert held.allowed() is not None and held.error is None
    assert write(tokenizer, held, 'me": "add"') == 'me": "add"'
    held = follower(grammars, STRICT)
    held._look_for_start(b"<tool_call>So")
    assert held.error is not None


def test_when_calls_are_held() -> None:
    assert holds_calls(request(STRICT)) and not holds_calls(request(LOOSE))
    assert not holds_calls(request(STRICT, tool_choice=ToolChoice("none")))
    assert not holds_calls(request(STRICT, tool_choice=ToolChoice("required")))
    assert not holds_calls(request(STRICT, LOOSE, tool_choice=ToolChoice("auto", ("say",))))
    assert not holds_calls(request(STRICT, grammar=Grammar("json_object")))


def test_a_way_of_its_own_is_refused_by_name(tokenizer: Any) -> None:
    named = Tool("add", "", ADD, strict=True, param="tools[0].function.parameters")
    with pytest.raises(BadRequest, match="in a way of its own") as caught:
        Grammars(tokenizer, tokenizer.eos_token_ids).compile_calls(request(named))
    assert caught.value.param == "tools[0].function.strict"


def test_a_name_with_quotes_and_a_long_schema(tokenizer: Any, grammars: Grammars) -> None:
    odd = Tool('say "now"\\', "", ADD, strict=True)
    text = START + json.dumps({"name": odd.name, "arguments": {"a": -5}}) + END
    assert write(tokenizer, follower(grammars, odd), text) == text
