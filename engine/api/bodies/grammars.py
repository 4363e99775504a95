"""What an answer must look like, in the words of OpenAI and of vLLM -> Grammar. Pure. Raises BadRequest.

{"response_format": {"type": "json_schema", "json_schema": {"name": ..., "schema": {...}, "strict": true}}}   OpenAI
{"structured_outputs": {"json" | "regex" | "choice" | "grammar" | "json_object": ...}}                        vLLM
{"guided_json" | "guided_regex" | "guided_choice" | "guided_grammar": ...}                                    older vLLM
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr

from engine.errors import BadRequest
from engine.types import Grammar, GrammarKind, Json

MAX_CHOICES = 1000
MAX_CHOICE_CHARS = 1000
Choices = list[StrictStr]


class JsonSchemaFormat(BaseModel):
    """OpenAI's. A schema is always kept to, whatever `strict` says."""

    model_config = ConfigDict(extra="allow")

    name: str | None = None
    description: str | None = None
    schema_: Json | StrictBool | None = Field(None, alias="schema")
    strict: StrictBool | None = None


class ResponseFormat(BaseModel):
    """OpenAI's. type: "text", "json_object" or "json_schema"."""

    model_config = ConfigDict(extra="allow")

    type: str
    json_schema: JsonSchemaFormat | None = None


class StructuredOutputs(BaseModel):
    """vLLM's: one of these."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    json_: Json | StrictBool | StrictStr | None = Field(None, alias="json")
    regex: StrictStr | None = None
    choice: Choices | None = None
    grammar: StrictStr | None = None
    json_object: StrictBool | None = None
    disable_fallback: StrictBool | None = Field(None, description="there is none: what cannot be compiled is refused")


class GrammarFields(BaseModel):
    """The fields of a request that say what its answer must look like; at most one of them."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: Json | StrictBool | StrictStr | None = None
    guided_regex: StrictStr | None = None
    guided_choice: Choices | None = None
    guided_grammar: StrictStr | None = None


def read_grammar(body: GrammarFields, own: Grammar | None = None) -> Grammar | None:
    """The one that a body asks for, None for none. own: what it asks for in a field that only its protocol has."""
    found = [grammar for grammar in (own, _of_format(body.response_format), *_of_vllm(body)) if grammar]
    if len(found) > 1:
        first, second = found[:2]
        raise BadRequest(
            f"{second.param}: {first.param} says already what the answer must look like.", param=second.param
        )
    return found[0] if found else None


def _of_format(asked: ResponseFormat | None) -> Grammar | None:
    param = "response_format"
    if asked is None or asked.type == "text":
        return None
    if asked.type == "json_object":
        return Grammar("json_object", param=param)
    if asked.type != "json_schema":
        raise BadRequest(f"{param}.type: it must be text, json_object or json_schema.", param=f"{param}.type")
    param = f"{param}.json_schema"
    if asked.json_schema is None:
        raise BadRequest(f"{param}: this field is required.", param=param, code="missing_required_parameter")
    param = f"{param}.schema"
    if asked.json_schema.schema_ is None:
        raise BadRequest(f"{param}: this field is required.", param=param, code="missing_required_parameter")
    return Grammar("json_schema", json.dumps(asked.json_schema.schema_), param)


def _of_vllm(body: GrammarFields) -> list[Grammar]:
    found: list[Grammar] = []
    if (asked := body.structured_outputs) is not None:
        param = "structured_outputs"
        for name in asked.model_extra or {}:
            if asked.model_extra and asked.model_extra[name] not in (None, False):
                where = f"{param}.{name}"
                raise BadRequest(f"{where}: not served.", param=where, code="unsupported_parameter")
        found += _given(param + ".", asked.json_, asked.regex, asked.choice, asked.grammar)
        found += [Grammar("json_object", param=f"{param}.json_object")] if asked.json_object else []
        if not found:
            raise BadRequest(f"{param}: say one of json, regex, choice, grammar or json_object.", param=param)
    return found + _given("guided_", body.guided_json, body.guided_regex, body.guided_choice, body.guided_grammar)


def _given(prefix: str, schema: Any, regex: str | None, choice: list[str] | None, grammar: str | None) -> list[Grammar]:
    found = []
    if schema is not None:
        found.append(Grammar("json_schema", _schema(schema, f"{prefix}json"), f"{prefix}json"))
    if choice is not None:
        found.append(Grammar("choice", _choices(choice, f"{prefix}choice"), f"{prefix}choice"))
    texts: tuple[tuple[GrammarKind, str | None], ...] = (("regex", regex), ("grammar", grammar))
    for kind, source in texts:
        if source is not None:
            if not source:
                raise BadRequest(f"{prefix}{kind}: it must not be empty.", param=f"{prefix}{kind}")
            found.append(Grammar(kind, source, f"{prefix}{kind}"))
    return found


def _schema(schema: Json | bool | str, param: str) -> str:
    """vLLM takes a schema as JSON in a string, too."""
    if not isinstance(schema, str):
        return json.dumps(schema)
    try:
        parsed = json.loads(schema)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict | bool):
        raise BadRequest(f"{param}: a string here must hold a JSON Schema.", param=param)
    return schema


def _choices(texts: list[str], param: str) -> str:
    if not 1 <= len(texts) <= MAX_CHOICES:
        raise BadRequest(f"{param}: between 1 and {MAX_CHOICES} texts, got {len(texts)}.", param=param)
    for i, text in enumerate(texts):
        if not 1 <= len(text) <= MAX_CHOICE_CHARS:
            why = f"a text has between 1 and {MAX_CHOICE_CHARS} characters, got {len(text)}"
            raise BadRequest(f"{param}[{i}]: {why}.", param=f"{param}[{i}]")
    return json.dumps(texts)
