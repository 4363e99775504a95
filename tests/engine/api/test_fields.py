"""The fields of a request beside its messages: how the answer is drawn, where it ends, what it must look like. And what
becomes of those that nobody reads."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from engine.api.anthropic.schemas import CountRequest, MessagesRequest
from engine.api.bodies.fields import ignored_header
from engine.api.bodies.grammars import MAX_CHOICES
from engine.api.bodies.refused import UNSUPPORTED
from engine.api.chat.schemas import ChatRequest
from engine.api.completions.schemas import TextRequest
from engine.api.ollama.schemas import GenerateRequest, OllamaChatRequest, Options
from engine.api.responses.schemas import CountedResponse, ResponsesRequest
from engine.api.tokens import TokenizeRequest
from engine.api.transcriptions import TranscriptionRequest
from engine.types import NO_LIMIT, Grammar, ModelCard
from tests.engine.api.test_convert import HELLO, chat, refused, text

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
SOURCE = json.dumps(SCHEMA)
CARD = ModelCard("m", "", "llama", "float32", 1, 4, 128)


def body(**fields: Any) -> ChatRequest:
    return ChatRequest.model_validate({"messages": HELLO, **fields})


# -- numbers -----------------------------------------------------------------------------------------------------------


def test_settings_of_the_answer_arrive() -> None:
    request = chat(
        n=3,
        logprobs=True,
        top_logprobs=5,
        min_tokens=2,
        ignore_eos=True,
        stop_token_ids=[7, 8],
        bad_words=["no", " way"],
    )
    assert (request.n, request.logprobs, request.min_tokens, request.ignore_eos) == (3, 5, 2, True)
    assert request.stop_token_ids == (7, 8) and request.bad_words == ("no", " way")
    assert chat(logprobs=True).logprobs == 0 and chat(logprobs=False).logprobs is None
    asked = text(prompt="x", n=2, stop=["a"], bad_words=["b"], guided_regex="a+")
    assert (asked.n, asked.stop, asked.bad_words) == (2, ("a",), ("b",)) and asked.grammar is not None


WHOLE = ("max_tokens", "max_completion_tokens", "min_tokens", "top_k", "seed", "n", "video_max_frames")


@pytest.mark.parametrize("field", WHOLE)
def test_an_integer_may_be_written_with_a_point(field: str) -> None:
    assert chat(**{field: 4.0}) == chat(**{field: 4}) != chat()
    for wrong in (4.5, 1e300, "4", True, [4]):
        assert refused(chat, **{field: wrong}).param == field


@pytest.mark.parametrize("field", sorted(set(ChatRequest.model_fields) - {"messages"}))
def test_null_is_not_given(field: str) -> None:
    assert chat(**{field: None}) == chat()
    assert ignored_header(body(**{field: None}, unknown=None), CARD) == {}


def test_minus_one_token_is_all_that_is_left() -> None:
    assert chat(max_tokens=-1).max_tokens == NO_LIMIT == chat(max_completion_tokens=-1.0).max_tokens
    assert text(prompt="x", max_tokens=-1).max_tokens == NO_LIMIT
    assert "at least 1, or -1 for no limit, got 0" in refused(chat, max_tokens=0).message


def test_every_number_has_a_bound_that_the_document_says() -> None:
    """And that the error says, for a value beyond it."""
    asked_of: tuple[tuple[Any, Any], ...] = ((ChatRequest, chat), (TextRequest, partial(text, prompt="x")))
    for model, ask in asked_of:
        for name, schema in model.model_json_schema()["properties"].items():
            number = next((kind for kind in schema.get("anyOf", ()) if kind.get("type") in ("integer", "number")), None)
            if number is None or name.startswith("video_"):
                continue
            assert number.keys() & {"minimum", "exclusiveMinimum"} and "maximum" in number, name
            for bound, beyond in ((number["maximum"], 1e300), (number.get("minimum"), -1e300)):
                asked = int(beyond) if number["type"] == "integer" else beyond
                error = refused(ask, **{name: asked})
                told = str(bound) if isinstance(bound, int) else f"{bound:.6f}".rstrip("0").rstrip(".")
                assert error.param == name and told in error.message, (name, error.message)


BODIES = (
    MessagesRequest,
    CountRequest,
    ResponsesRequest,
    CountedResponse,
    TokenizeRequest,
    TranscriptionRequest,
    GenerateRequest,
    OllamaChatRequest,
    Options,
)


@pytest.mark.parametrize("body", BODIES)
def test_every_number_of_every_protocol_has_a_bound(body: type[BaseModel]) -> None:
    """keep_alive has none: it is taken and changes nothing."""
    for name, schema in body.model_json_schema()["properties"].items():
        for number in (kind for kind in schema.get("anyOf", [schema]) if kind.get("type") in ("integer", "number")):
            if name.startswith("video_") or name == "keep_alive":
                continue
            assert number.keys() & {"minimum", "exclusiveMinimum"} and "maximum" in number, name
            beyond = 10**300 if number["type"] == "integer" else 1e300
            with pytest.raises(ValidationError, match="less than or equal"):
                body.model_validate({name: beyond})


@pytest.mark.parametrize(
    ("field", "value", "limit"),
    [
        ("max_tokens", -5, "-1"),
        ("repetition_penalty", 0, "0.01"),
        ("presence_penalty", 3, "2"),
        ("frequency_penalty", -3, "-2"),
        ("seed", 2**63, str(2**63 - 1)),
        ("n", 129, "128"),
        ("top_logprobs", 21, "20"),
        ("top_logprobs", 2, "logprobs is true"),
        ("logprobs", 5, "boolean"),
        ("stop_token_ids", [1] * 129, "128"),
        ("bad_words", ["a"] * 129, "128"),
        ("bad_words", [""], "empty"),
        ("bad_words", ["a" * 1001], "1000"),
        ("ignore_eos", 1, "boolean"),
    ],
)
def test_wrong_values_are_named_with_their_limit(field: str, value: Any, limit: str) -> None:
    error = refused(chat, **{field: value})
    assert error.status == 400 and error.param == field
    assert error.message.startswith(f"{field}: ") and limit in error.message


# -- what the answer must look like ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, Grammar("json_object")),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
            Grammar("json_schema", SOURCE, "response_format.json_schema.schema"),
        ),
        ({"structured_outputs": {"json": SCHEMA}}, Grammar("json_schema", SOURCE, "structured_outputs.json")),
        ({"structured_outputs": {"json": SOURCE}}, Grammar("json_schema", SOURCE, "structured_outputs.json")),
        ({"structured_outputs": {"regex": "a+"}}, Grammar("regex", "a+", "structured_outputs.regex")),
        ({"structured_outputs": {"choice": ["a", "b"]}}, Grammar("choice", '["a", "b"]', "structured_outputs.choice")),
        ({"structured_outputs": {"grammar": "start: a"}}, Grammar("grammar", "start: a", "structured_outputs.grammar")),
        ({"structured_outputs": {"json_object": True}}, Grammar("json_object", "", "structured_outputs.json_object")),
        ({"guided_json": True}, Grammar("json_schema", "true", "guided_json")),
        ({"guided_regex": "a"}, Grammar("regex", "a", "guided_regex")),
        ({"guided_choice": ["a"]}, Grammar("choice", '["a"]', "guided_choice")),
        ({"guided_grammar": "root ::= a"}, Grammar("grammar", "root ::= a", "guided_grammar")),
    ],
)  # fmt: skip
def test_forms(fields: dict[str, Any], expected: Grammar | None) -> None:
    assert chat(**fields).grammar == expected


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"response_format": {}}, "response_format.type", "required"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "json_schema"),
        ({"response_format": "json"}, "response_format", ""),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "required"),
        (
            {"response_format": {"type": "json_schema", "json_schema": SCHEMA}},
            "response_format.json_schema.schema",
            "required",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": "x"}}},
            "response_format.json_schema.schema",
            "dictionary",
        ),
        ({"structured_outputs": {}}, "structured_outputs", "one of json"),
        ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag", "not served"),
        ({"structured_outputs": {"regex": ""}}, "structured_outputs.regex", "empty"),
        ({"structured_outputs": {"regex": 5}}, "structured_outputs.regex", "string"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice", str(MAX_CHOICES)),
        ({"structured_outputs": {"choice": ["a", ""]}}, "structured_outputs.choice[1]", "1"),
        ({"structured_outputs": {"json": "{"}}, "structured_outputs.json", "JSON Schema"),
        ({"guided_choice": "yes"}, "guided_choice", "list"),
        ({"guided_json": [1]}, "guided_json", ""),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_regex", "guided_choice says already"),
        (
            {"response_format": {"type": "json_object"}, "structured_outputs": {"regex": "a"}},
            "structured_outputs.regex",
            "response_format says already",
        ),
    ],
)
def test_wrong_forms_are_named(fields: dict[str, Any], param: str, words: str) -> None:
    error = refused(chat, **fields)
    assert error.param == param and error.message.startswith(param) and words in error.message


# -- what is not served ------------------------------------------------------------------------------------------------

ASKS: dict[str, Any] = {
    "functions": [{"name": "f"}],
    "function_call": {"name": "f"},
    "modalities": ["text", "audio"],
    "audio": {"voice": "alloy", "format": "wav"},
    "prediction": {"type": "content", "content": "x"},
    "web_search_options": {},
    "echo": True,
    "suffix": "x",
    "best_of": 3,
    "top_logprobs": 3,
    "prompt_logprobs": 0,
    "use_beam_search": True,
    "length_penalty": 0.5,
    "allowed_token_ids": [1],
    "include_stop_str_in_output": True,
    "skip_special_tokens": False,
    "spaces_between_special_tokens": False,
    "truncate_prompt_tokens": -1,
    "prompt_embeds": "AAAA",
    "return_token_ids": True,
    "return_tokens_as_token_ids": True,
    "logits_processors": ["os.system"],
    "chat_template": "{{ messages }}",
    "documents": [{"title": "x"}],
    "mm_processor_kwargs": {"max_pixels": 1000},
    "media_io_kwargs": {"video": {"num_frames": 4}},
    "guided_whitespace_pattern": " *",
    "structural_tag": {"x": 1},
    "kv_transfer_params": {"x": 1},
    "grammar": "root ::= a",
    "json_schema": SCHEMA,
    "regex": "a",
    "ebnf": "a",
    "n_predict": 5,
    "n_probs": 2,
    "typical_p": 0.5,
    "tfs_z": 0.5,
    "mirostat": 2,
    "dry_multiplier": 0.8,
    "xtc_probability": 0.5,
    "dynatemp_range": 0.5,
    "samplers": ["top_k"],
    "stop_regex": "a",
    "no_stop_trim": True,
    "lora_path": "x",
}


def test_every_unsupported_field_has_an_example() -> None:
    assert set(UNSUPPORTED) == set(ASKS)


@pytest.mark.parametrize("field", ASKS)
def test_what_is_not_served_is_refused_not_ignored(field: str) -> None:
    asked = {field: ASKS[field]}
    error = refused(text, prompt="x", **asked) if field == "top_logprobs" else refused(chat, **asked)
    assert error.param == field and error.code == "unsupported_parameter" and error.message.startswith(field)


def test_asking_for_nothing_special_is_fine() -> None:
    plain = {
        "tools": [],
        "response_format": {"type": "text"},
        "logprobs": False,
        "top_logprobs": 0,
        "modalities": ["text"],
        "echo": False,
        "best_of": 1,
        "n": 1,
        "skip_special_tokens": True,
        "length_penalty": 1.0,
        "n_predict": -1,
    }
    assert chat(**plain) == chat()
    assert ignored_header(body(**plain), CARD) == {}


def test_what_nobody_knows_is_named() -> None:
    asked = body(
        user="me",
        metadata={"a": 1},
        whatever=[1],
        response_format={"type": "json_schema", "json_schema": {"schema": SCHEMA, "title": "x"}},
        stream=True,
        stream_options={"include_usage": True, "include_obfuscation": False},
        messages=[{**HELLO[0], "name": "anna", "refusal": None, "annotations": [], "mood": "good"}],
    )
    names = (
        "user",
        "metadata",
        "whatever",
        "response_format.json_schema.title",
        "stream_options.include_obfuscation",
        "messages[0].mood",
    )
    assert ignored_header(asked, CARD) == {"x-ignored-fields": ", ".join(names)}
    assert ignored_header(asked, None) == ignored_header(asked, CARD), "of a model that was never loaded, too"
    assert ignored_header(body(temperature=1), CARD) == {}


def test_a_name_cannot_break_the_header() -> None:
    (value,) = ignored_header(body(**{"a\r\nSet-Cookie: x=1, ü": 1, "b" * 5000: 2}), CARD).values()
    first, second = value.split(", ")
    assert first == "a%0D%0ASet-Cookie%3A%20x%3D1%2C%20%C3%BC" and second == "b" * 100
    (value,) = ignored_header(body(**{f"x{i}": 1 for i in range(100)}), CARD).values()
    assert value.endswith(", and 68 more") and len(value) < 4000


def test_usage_in_every_chunk_is_not_served() -> None:
    error = refused(chat, stream=True, stream_options={"continuous_usage_stats": True})
    assert error.param == "stream_options.continuous_usage_stats"
    assert chat(stream=True, stream_options={"continuous_usage_stats": False}) == chat()


# -- what clients send in a history ------------------------------------------------------------------------------------


def test_half_of_a_character_in_a_message_is_shown_as_one_that_is_lost() -> None:
    request = chat(
        [
            {"role": "assistant", "content": "cut \ud83d"},
            {"role": "user", "content": [{"type": "text", "text": "\udc00!"}]},
        ]
    )
    assert [part.text for message in request.messages for part in message.parts] == ["cut \ufffd", "\ufffd!"]
    assert refused(chat, stop=["\ud83d"]).param == "stop[0]"


def test_a_conversation_of_the_system_alone() -> None:
    assert chat([{"role": "system", "content": "Say hello."}]).messages[0].role == "system"
