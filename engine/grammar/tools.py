"""What an answer must look like where tools may be called. Pure Python.

Calls that are forced are written in one way on every model: JSON between marks, as models of most families know it.
The JSON has the spaces of Python's json, as templates write it, so that the next turn's prompt goes on with the same
tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from engine.grammar.calls import PARAM, holds_calls, strict_tools
from engine.grammar.follow import refusal
from engine.grammar.schemas import closed
from engine.types import Grammar, Json, Request, Tool

CALL_START, CALL_END = "<tool_call>", "</tool_call>"
"""The marks around a call that is forced; engine.models.chat_format reads it."""

MAX_CALLS = 16
"""In one answer, where calls are forced."""

_SPACING: Json = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
_OPTIONS: Json = _SPACING | {"lenient": False, "coerce_one_of": False}


def answer_grammar(request: Request) -> Grammar | None:
    """What the request says of its answer, in one grammar; None for nothing. The request's own grammar and the tools'
    schemas are known to be in order (parts).

    Tools that must be called leave no other answer. Where they may be called, an answer that must have a form is either
    in that form or calls.
    """
    tools = request.offered_tools
    if not tools or (request.tool_choice.mode == "auto" and request.grammar is None):
        return request.grammar
    rules = [*_rules(tools, parallel=request.tool_choice.parallel)]
    start = "calls"
    if request.tool_choice.mode == "auto" and request.grammar is not None:
        start = "calls | form"
        rules.append(f"form: {_form(request.grammar)}")
    return Grammar("tools", "\n".join([f"start: {start}", *rules]) + "\n", PARAM)


def parts(request: Request) -> Iterator[Grammar]:
    """What its grammar is made of, each with its own place in the request, to be looked at one by one."""
    if request.grammar is not None:
        yield request.grammar
    asked = strict_tools(request) if holds_calls(request) else request.offered_tools
    for i, tool in enumerate(request.tools):
        if tool in asked and tool.parameters is not None:
            param = tool.param or f"{PARAM}[{i}].function.parameters"
            yield Grammar("json_schema", json.dumps(tool.parameters), param)


def _rules(tools: tuple[Tool, ...], *, parallel: bool) -> Iterator[str]:
    yield f'calls: call ("\\n" call){{0,{MAX_CALLS - 1}}}' if parallel else "calls: call"
    yield "call: " + " | ".join(f"call_{i}" for i in range(len(tools)))
    tail = f"}}\n{CALL_END}"
    for i, tool in enumerate(tools):
        head = f'{CALL_START}\n{{"name": {json.dumps(tool.name, ensure_ascii=False)}, "arguments": '
        yield f"call_{i}: {_quoted(head)} arguments_{i} {_quoted(tail)}"
        yield f"arguments_{i}: {_schema(tool.parameters or {'type': 'object'})}"


def _form(grammar: Grammar) -> str:
    """A grammar of another kind as the right side of a rule. Raises BadRequest for one that has rules of its own."""
    if grammar.kind == "grammar":
        why = "a grammar and tools that may be called do not go together; say tool_choice none or required"
        raise refusal(grammar, why)
    if grammar.kind == "regex":
        return "/" + re.sub(r"(\\.)|/", lambda match: match[1] or r"\/", grammar.source).replace("\n", r"\n") + "/"
    if grammar.kind == "choice":
        return " | ".join(_quoted(text) for text in json.loads(grammar.source))
    return _schema(json.loads(grammar.source) if grammar.kind == "json_schema" else {"type": "object"})


def _schema(schema: Json | bool) -> str:
    asked: Json = schema if isinstance(schema, dict) else {} if schema else {"enum": []}
    return f"%json {json.dumps(closed(asked) | {'x-guidance': _OPTIONS})}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
