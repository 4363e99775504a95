"""tool calls: read from an answer's text in every format that mlx-lm knows, in pieces that join to what was written."""

from __future__ import annotations

import importlib
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.config import EngineConfig, ModelSpec
from engine.models import registry
from engine.models.chat_format import PLAIN_TOOLS, ToolFormat
from engine.prompt.tool_prompt import tool_json
from engine.runtime.output.detokenizer import Detokenizer
from engine.runtime.output.tool_calls import ToolCallReader
from engine.types import CompletedChoice, Completion, Delta, Done, GeneratedToken, Timing, Tool, ToolCall, Usage
from tests import tiny
from tests.families import FAMILIES, Family

ADD = Tool("add", "Adds.", {"type": "object", "properties": {"a": {"type": "integer"}, "note": {"type": "string"}}})
TOOLS = [tool_json(ADD), tool_json(Tool("now"))]
CALL = '{"name": "add", "arguments": {"a": 1, "note": "x}\\"é"}}'
ARGUMENTS = '{"a": 1, "note": "x}\\"é"}'
WRITTEN = {
    "json_tools": [f"<tool_call>\n{CALL}\n</tool_call>"],
    "mistral": [f"[TOOL_CALLS]add[ARGS]{ARGUMENTS}", f"[TOOL_CALLS][{CALL}]"],
    "qwen3_coder": [
        "<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n"
        '<parameter=note>\nx}"é\n</parameter>\n</function>\n</tool_call>'
    ],
    "glm47": [
        "<tool_call>add<arg_key>a</arg_key><arg_value>1</arg_value>"
        '<arg_key>note</arg_key><arg_value>x}"é</arg_value></tool_call>'
    ],
    "pythonic": ["<|tool_call_start|>[add(a=1, note='x}\"é')]<|tool_call_end|>"],
    "kimi_k2": [
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.add:0<|tool_call_argument_begin|>"
        f"{ARGUMENTS}<|tool_call_end|><|tool_calls_section_end|>"
    ],
    "minimax_m2": [
        '<minimax:tool_call><invoke name="add"><parameter name="a">1</parameter>'
        '<parameter name="note">x}"é</parameter></invoke></minimax:tool_call>'
    ],
    "gemma4": ['<|tool_call>call:add{a:1,note:<|"|>x}"é<|"|>}<tool_call|>'],
}
TWO = (
    '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>\n'
    '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
)


def format_of(name: str) -> ToolFormat:
    module = importlib.import_module(f"mlx_lm.tool_parsers.{name}")
    return ToolFormat(module.tool_call_start, module.tool_call_end, module.parse_tool_call, is_native=True)


@pytest.fixture(scope="module")
def loaded(models_dir: Path) -> registry.Loaded:
    """A byte-level tokenizer that knows <think>, and some marks of tool calls as special tokens."""
    tokens = ("<think>", "</think>", "<|tool_call>", "<tool_call|>", '<|"|>', "[TOOL_CALLS]", "[ARGS]")
    family = Family(config=FAMILIES["qwen3"].config, tokens=tokens)
    folder = tiny.write(family, "qwen3", "float32", models_dir / "calls")
    return registry.load(EngineConfig(model=ModelSpec(str(folder))))


Answer = Callable[..., CompletedChoice]


@pytest.fixture
def answer(loaded: registry.Loaded) -> Answer:
    """The answer that this text is, token by token."""

    def make(text: str, format: ToolFormat = PLAIN_TOOLS, *, parallel: bool = True, **settings: Any) -> CompletedChoice:
        calls = ToolCallReader(format, TOOLS, parallel=parallel)
        detokenizer = Detokenizer(loaded, calls=calls, **settings)
        deltas: list[Delta] = []
        for token in loaded.tokenizer.encode(text, add_special_tokens=False):
            deltas += detokenizer.add(GeneratedToken(token))
            if detokenizer.stopped:
                break
        deltas += detokenizer.flush() + detokenizer.rest()
        check_deltas(deltas)
        return Completion.of(deltas, Done("stop", Usage(1, 1), Timing())).choices[0]

    return make


def check_deltas(deltas: Sequence[Delta]) -> None:
    """A call's id and name come first and once; calls come one after the other."""
    seen: list[int] = []
    for delta in deltas:
        assert (delta.channel == "tool") == (delta.tool_call is not None), "a call without its channel"
        if (piece := delta.tool_call) is None:
            continue
        assert not delta.text
        if piece.index not in seen:
            assert piece.id and piece.name and piece.index == len(seen), "a call does not begin with its name"
            seen.append(piece.index)
        else:
            assert not piece.id and not piece.name and piece.index == seen[-1], "a call is begun twice"


# -- every format ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_every_format_is_read(answer: Answer, name: str) -> None:
    for text in WRITTEN[name]:
        choice = answer(f"Let me see.\n{text}", format_of(name))
        (call,) = choice.tool_calls
        assert (call.name, json.loads(call.arguments)) == ("add", {"a": 1, "note": 'x}"é'}), "the call is another one"
        assert choice.text.strip() == "Let me see."


def test_the_parser_is_chosen_by_the_template(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    from tests.engine.prompt.test_build import with_template

    templates = {
        "{{ tools }}<tool_call>{{ tool_call.name }}": ("<tool_call>", True),
        "{{ tools }}[TOOL_CALLS]": ("[TOOL_CALLS]", True),
        "{{ tools }}{{ messages }}": ("<tool_call>", False),
        "<tool_call>{{ tool_call.name }}{{ messages }}": ("<tool_call>", False),
    }
    for i, (template, expected) in enumerate(templates.items()):
        tools = with_template(tiny_model("llama"), tmp_path / str(i), template).tools
        assert (tools.start, tools.is_native) == expected


# -- as they are written -----------------------------------------------------------------------------------------------


def test_arguments_come_as_they_are_written() -> None:
    reader = ToolCallReader(PLAIN_TOOLS, TOOLS)
    head, arguments = '\n{"name": "add", "arguments": ', '{"a": [1, {"b": "}"}], "note": "\\\\"}'
    pieces = [piece for char in head + arguments + "}\n" for piece in reader.add(char)]
    assert pieces[0].name == "add" and len(pieces) == 1 + len(arguments)
    assert "".join(piece.arguments for piece in pieces) == arguments
    assert reader.end() == []


def test_any_cut_gives_the_same_call() -> None:
    rng = random.Random(3)
    for name in ("json_tools", "mistral"):
        format = format_of(name)
        text = WRITTEN[name][0].removeprefix(format.start).removesuffix(format.end or "\0")
        for _ in range(50):
            reader, pieces, rest = ToolCallReader(format, TOOLS), [], text
            while rest:
                size = rng.randint(1, 12)
                pieces += reader.add(rest[:size])
                rest = rest[size:]
            pieces += reader.end() or []
            assert {piece.index for piece in pieces} == {0} and pieces[0].name == "add"
            assert json.loads("".join(piece.arguments for piece in pieces)) == {"a": 1, "note": 'x}"é'}


def test_two_calls_have_two_ids(answer: Answer) -> None:
    choice = answer(TWO)
    assert [call.name for call in choice.tool_calls] == ["add", "now"]
    assert len({call.id for call in choice.tool_calls}) == 2 and choice.text == ""
    for call in choice.tool_calls:
        assert call.id.isalnum() and len(call.id) == 9


@pytest.mark.parametrize("name", ["json_tools", "mistral"])
def test_only_one_call_where_one_is_wanted(answer: Answer, name: str) -> None:
    two = TWO if name == "json_tools" else '[TOOL_CALLS]add[ARGS]{"a": 1}[TOOL_CALLS]now[ARGS]{}'
    choice = answer(f"{two} and more", format_of(name), parallel=False)
    assert [(call.name, call.arguments) for call in choice.tool_calls] == [("add", '{"a": 1}')]
    assert "more" not in choice.text


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>no call at all</tool_call> and so on",
        '<tool_call>{"nome": "add"}</tool_call>',
        "<tool_call>\n{",
        "a < b, <tool, <tool_cal and  spaces ",
        "\n\n",
    ],
)
def test_what_is_no_call_is_text(answer: Answer, text: str) -> None:
    """As the model wrote it, whole."""
    choice = answer(text)
    assert choice.tool_calls == () and choice.text == text, "text is lost"


NESTED = "[" * 100_000
UNREADABLE = {
    "an escape that is none": ("json_tools", r'{"name": "a\x", "arguments": {}}'),
    "half an escape": ("json_tools", r'{"name": "a\u12", "arguments": {}}'),
    "a line break": ("json_tools", '{"name": "a\nb", "arguments": {}}'),
    "half of a pair": ("json_tools", r'{"name": "\ud83d", "arguments": {}}'),
    "no name": ("json_tools", '{"name": "", "arguments": {}}'),
    "half of a pair behind": ("json_tools", r'{"arguments": {}, "name": "\ud83d"}'),
    "an id of half a pair": ("json_tools", r'{"id": "\ud83d", "arguments": {}, "name": "add"}'),
    "deep arguments": ("json_tools", f'{{"arguments": "{NESTED}", "name": "add"}}'),
    "deep text": ("json_tools", NESTED),
    "a set": ("pythonic", "[add(a={1, 2})]"),
    "bytes": ("pythonic", "[add(a=b'1')]"),
    "a complex number": ("pythonic", "[add(a=1+2j)]"),
    "an ellipsis": ("pythonic", "[add(a=...)]"),
    "a key of two": ("pythonic", "[add(a={(1, 2): 3})]"),
    "a number too long": ("pythonic", f"[add(a=0x{'f' * 5000})]"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_call_that_cannot_be_read_or_sent_is_text(answer: Answer, name: str) -> None:
    format_name, written = UNREADABLE[name]
    format = format_of(format_name)
    choice = answer(f"{format.start}{written}{format.end}", format)
    assert choice.tool_calls == () and choice.text == f"{format.start}{written}{format.end}", "text is lost"


def test_behind_a_call_it_is_text_too(answer: Answer) -> None:
    second = r', {"name": "\x", "arguments": {}}]'
    choice = answer(f"<tool_call>[{CALL}{second}</tool_call>", format_of("json_tools"))
    assert [(call.name, call.arguments) for call in choice.tool_calls] == [("add", ARGUMENTS)]
    assert r'{"name": "\x", "arguments": {}}' in choice.text


def test_half_of_a_pair_in_arguments_is_escaped() -> None:
    for written in (r'{"a": "\ud83d"}', json.dumps(r'{"a": "\ud83d"}')):
        reader = ToolCallReader(PLAIN_TOOLS, TOOLS)
        reader.add(f'{{"arguments": {written}, "name": "add"}}')
        (piece,) = reader.end() or []
        assert json.loads(piece.arguments.encode()) == {"a": "\ud83d"}


@pytest.mark.parametrize("filler", [" ", "{", "[", ",", "a", "\n", '{"name": "', '"', "é"])
def test_a_text_without_a_head_costs_the_same_for_every_token(filler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: how much of the text is looked at when one more token comes."""
    from engine.runtime.output import tool_calls

    looked_at: list[int] = []

    class Head:
        def __init__(self, head: Any) -> None:
            self._head = head

        def match(self, text: str, start: int, end: int) -> Any:
            looked_at.append(min(len(text), end) - start)
            return self._head.match(text, start, end)

    monkeypatch.setattr(tool_calls, "_HEADS", tuple(map(Head, tool_calls._HEADS)))
    reader = ToolCallReader(PLAIN_TOOLS, TOOLS)
    for _ in range(20_000):
        assert reader.add(filler) == []
    assert len(looked_at) <= 2 * 1100 and max(looked_at) <= 1024, "more and more is looked at"
    assert reader.end() is None and reader.take_rest() == filler * 20_000, "text is lost"


def test_a_head_that_is_too_long_to_be_looked_for_is_read_at_the_end(answer: Answer) -> None:
    written = "\n" * 5000 + CALL
    (call,) = answer(f"<tool_call>{written}</tool_call>", format_of("json_tools")).tool_calls
    assert (call.name, json.loads(call.arguments)) == ("add", json.loads(ARGUMENTS))


def test_arguments_that_are_cut_off_stay_so(answer: Answer) -> None:
    (call,) = answer('<tool_call>{"name": "add", "arguments": {"a": 1').tool_calls
    assert call.arguments == '{"a": 1'


def test_a_thought_about_a_call_is_none(answer: Answer) -> None:
    choice = answer(f"I could say {TWO}</think>But no.", reasoning=True)
    assert choice.tool_calls == () and choice.reasoning == f"I could say {TWO}" and choice.text == "But no."


def test_a_stop_string_ends_a_call(answer: Answer) -> None:
    choice = answer(f"Well.{TWO}", stop=('"now"',))
    assert [call.name for call in choice.tool_calls] == ["add"] and choice.text.startswith("Well.")


@pytest.mark.parametrize("written", ['{"a": 1}', '"{\\"a\\": 1}"', "null", "[1]"])
def test_arguments_become_json(written: str) -> None:
    reader = ToolCallReader(PLAIN_TOOLS, TOOLS)
    streamed = reader.add(f'{{"arguments": {written}, "name": "add"}}')
    assert streamed == []
    (piece,) = reader.end() or []
    expected = {"null": "{}", "[1]": "[1]"}.get(written, '{"a": 1}')
    assert piece.arguments == expected


# -- sabotage ----------------------------------------------------------------------------------------------------------


def test_sabotage_a_reader_that_takes_braces_in_texts_for_its_own_is_seen(
    answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.runtime.output import tool_calls

    def first_brace(self: Any, text: str, start: int) -> int:
        at = text.find("}", start)
        self.is_found = at >= 0
        return at + 1 if at >= 0 else len(text)

    monkeypatch.setattr(tool_calls._JsonEnd, "find", first_brace)
    (call,) = answer(WRITTEN["json_tools"][0]).tool_calls
    with pytest.raises(AssertionError, match="the arguments are no JSON"):
        check_json(call)


def check_json(call: ToolCall) -> None:
    try:
        json.loads(call.arguments)
    except ValueError:
        raise AssertionError("the arguments are no JSON") from None


def test_sabotage_text_that_is_not_given_back_is_seen(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ToolCallReader, "take_rest", lambda self: "")
    with pytest.raises(AssertionError, match="text is lost"):
        test_what_is_no_call_is_text(answer, '<tool_call>{"nome": "add"}</tool_call>')
