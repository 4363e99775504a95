"""Grammars are compiled once, or refused with their reason; nothing that a client sends ends the process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import BadRequest
from engine.grammar.compile import MAX_CHARS, MAX_RULES, Grammars
from engine.grammar.schemas import MAX_LEVELS, closed
from engine.types import Grammar, GrammarKind
from tests.test_layout import ROOT

TinyModel = Callable[..., Path]


@pytest.fixture(scope="module")
def grammars(tokenizer: Any) -> Grammars:
    return Grammars(tokenizer, tokenizer.eos_token_ids)


def schema(**fields: Any) -> Grammar:
    return Grammar("json_schema", json.dumps(fields), "guided_json")


def takes(grammars: Grammars, tokenizer: Any, grammar: Grammar, text: str) -> bool:
    matcher = grammars.compile(grammar).matcher.deep_copy()
    ids = tokenizer.encode(text, add_special_tokens=False)
    return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()


@pytest.mark.parametrize(
    ("grammar", "yes", "no"),
    [
        (Grammar("choice", json.dumps(["a b", 'q"\\\n', "é🙂"])), ["a b", 'q"\\\n', "é🙂"], ["a", "é"]),
        (Grammar("regex", "[a-c]+é?"), ["abcé", "a"], ["d", "aéé", ""]),
        (Grammar("grammar", 'root ::= "x" root | "y"'), ["xxy", "y"], ["x", "xyx"]),
        (Grammar("grammar", 'start: "x" start | "y"'), ["xxy"], ["x"]),
        (Grammar("json_object"), ["{}", '{"a": [1, {"b": null}]}', '{\n  "a": 1\n}'], ["[]", "1", '{"a": }']),
        (Grammar("json_schema", "true"), ["1", "[]", '"x"'], ["", "{"]),
        (schema(type="integer", minimum=3), ["3", "12"], ["2", "3.5", '"3"']),
        (schema(enum=["a", 2]), ['"a"', "2"], ["a", "3"]),
    ],
)  # fmt: skip
def test_what_each_kind_takes(
    grammars: Grammars, tokenizer: Any, grammar: Grammar, yes: list[str], no: list[str]
) -> None:
    assert [text for text in yes if not takes(grammars, tokenizer, grammar, text)] == []
    assert [text for text in no if takes(grammars, tokenizer, grammar, text)] == []


@pytest.mark.parametrize(
    ("grammar", "why"),
    [
        (schema(type="wat"), "Invalid type: wat"),
        (schema(type="object", **{"not": {}}), 'Unimplemented keys: ["not"]'),
        (schema(**{"type": "object", "not": {}, "x-guidance": {"lenient": True}}), 'Unimplemented keys: ["not"]'),
        (schema(**{"$ref": "http://127.0.0.1:9/x"}), "does not fetch"),
        (schema(type="integer", minimum=3, maximum=2), "Unsatisfiable"),
        (Grammar("json_schema", "false"), "no answer can be valid"),
        (Grammar("json_schema", "[1]"), "a schema is an object"),
        (Grammar("json_schema", "{"), "Expecting property name"),
        (Grammar("json_schema", "[" * 5000), "recursion"),
        (Grammar("regex", "(a"), "unclosed group"),
        (Grammar("regex", "a(?=b)"), "look-around"),
        (Grammar("grammar", "root ::= foo"), "Rule 'foo' not found"),
        (Grammar("grammar", "root ::= " + "(" * 7000 + '"a"' + ")" * 7000), "recursion"),
        (Grammar("grammar", "%%%"), "Expected name"),
    ],
)
def test_what_cannot_be_had_is_refused_with_its_reason(grammars: Grammars, grammar: Grammar, why: str) -> None:
    with pytest.raises(BadRequest) as caught:
        grammars.compile(grammar)
    assert caught.value.param == grammar.param and caught.value.code == "invalid_grammar"
    assert caught.value.message.startswith(f"{grammar.param}: ") and why in caught.value.message
    assert "\n" not in caught.value.message and len(caught.value.message) < 600


def chain(step: str, count: int) -> str:
    """A schema of definitions of which each refers to the next."""
    defs = {str(i): json.loads(step.replace("NEXT", str(i + 1))) for i in range(count)}
    return json.dumps({"$ref": "#/$defs/0", "$defs": {**defs, str(count): {"type": "string"}}}, separators=(",", ":"))


DEEP: dict[str, tuple[GrammarKind, str]] = {
    "references": ("json_schema", chain('{"$ref": "#/$defs/NEXT"}', 5000)),
    "objects": ("json_schema", chain('{"properties": {"a": {"$ref": "#/$defs/NEXT"}}}', 3000)),
    "arrays": ("json_schema", chain('{"items": {"$ref": "#/$defs/NEXT"}}', 3000)),
    "all of": ("json_schema", chain('{"allOf": [{"$ref": "#/$defs/NEXT"}]}', 3000)),
    "rules": ("grammar", "\n".join([f"a{i}: a{i + 1}" for i in range(1500)])),
    "long regex": ("regex", "(a|b)*" * 20_000),
    "long schema": ("json_schema", json.dumps({"enum": ["x" * 100] * 3000})),
}


@pytest.mark.parametrize("name", DEEP)
def test_what_would_end_the_process_or_take_minutes_is_refused(grammars: Grammars, name: str) -> None:
    with pytest.raises(BadRequest, match=r"at most|deeper than"):
        grammars.compile(Grammar(*DEEP[name]))


def test_sabotage_without_the_limit_a_schema_ends_the_process() -> None:
    """Twin: the library itself, in a process of its own."""
    code = (
        "import json, sys; from llguidance import LLMatcher, LLTokenizer; "
        "LLMatcher(LLTokenizer('byte'), LLMatcher.grammar_from_json_schema(json.loads(sys.stdin.read())))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=DEEP["objects"][1], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode < 0, "the library refuses it by now: the limit can go"


def test_as_much_as_is_allowed_is_compiled(grammars: Grammars, tokenizer: Any) -> None:
    hops = (MAX_LEVELS - 10) // 3
    deep = Grammar("json_schema", chain('{"properties": {"a": {"$ref": "#/$defs/NEXT"}}}', hops))
    assert takes(grammars, tokenizer, deep, '{"a":{"a":{}}}')
    rules = [f"a{i}: a{i + 1}" for i in range(MAX_RULES - 2)]
    wide = Grammar("grammar", "\n".join(["start: a0", *rules, f'a{MAX_RULES - 2}: "x"']))
    assert len(wide.source) < MAX_CHARS["grammar"] and takes(grammars, tokenizer, wide, "x")


def test_a_schema_that_refers_to_itself(grammars: Grammars, tokenizer: Any) -> None:
    tree = schema(type="object", properties={"kids": {"type": "array", "items": {"$ref": "#"}}}, required=["kids"])
    assert takes(grammars, tokenizer, tree, '{"kids": [{"kids": []}]}')
    assert not takes(grammars, tokenizer, tree, '{"kids": [{"kids": 1}]}')


def test_a_grammar_is_compiled_once(grammars: Grammars, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.grammar import compile as compiling

    made: list[Any] = []
    matcher = compiling.LLMatcher

    def counted(*args: Any, **settings: Any) -> Any:
        made.append(args)
        return matcher(*args, **settings)

    monkeypatch.setattr(compiling, "LLMatcher", counted, raising=True)
    counted.grammar_from_regex = matcher.grammar_from_regex  # type: ignore[attr-defined]
    first, again = (grammars.compile(Grammar("regex", "only-here")) for _ in range(2))
    assert first is again and len(made) == 1
    grammars.compile(Grammar("regex", "only-there"))
    assert len(made) == 2


def test_a_tokenizer_that_has_no_bytes_is_refused() -> None:
    with pytest.raises(BadRequest, match="tokenizer cannot be held to a grammar"):
        Grammars(object(), [1]).compile(Grammar("regex", "a"))


# -- objects have the properties that they name ------------------------------------------------------------------------

NAMED = {"properties": {"a": {"properties": {"b": {}}}, "c": {"items": {"properties": {}}}}, "required": ["a"]}


def test_objects_are_closed_wherever_they_are() -> None:
    shut = closed({"$defs": {"d": NAMED}, "anyOf": [NAMED, {"$ref": "#/$defs/d"}]})
    for node in (shut["$defs"]["d"], shut["anyOf"][0]):
        assert node["additionalProperties"] is False
        assert node["properties"]["a"]["additionalProperties"] is False
        assert node["properties"]["c"]["items"]["additionalProperties"] is False
    assert "additionalProperties" not in shut and "additionalProperties" not in NAMED, "what came in is as it was"


@pytest.mark.parametrize(
    "left",
    [
        {"type": "object"},
        {"properties": {"a": {}}, "additionalProperties": {"type": "integer"}},
        {"properties": {"a": {}}, "required": ["a", "b"]},
        {"properties": {"a": {}}, "patternProperties": {"^x": {}}},
        {"properties": {"a": {}}, "minProperties": 2},
        {"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]},
        {"properties": {"a": {}}, "anyOf": [{"properties": {"b": {}}, "required": ["b"]}, {}]},
        {"enum": [{"properties": {"a": 1}}]},
    ],
)
def test_what_may_have_others_is_left_as_it_is(left: dict[str, Any]) -> None:
    assert closed(left) == left
