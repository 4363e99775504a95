"""What a chat template knows of, and how its model writes tool calls. Pure Python over jinja2 and mlx-lm's parsers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlx_lm.tool_parsers import json_tools

from engine.grammar.tools import CALL_END, CALL_START

_GENERATION_TAG = re.compile(r"\{%-?\s*(end)?generation\s*-?%\}")
"""transformers' own tag, which jinja2 does not know."""


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """How a model writes the tools that it calls: start, then what parse reads, then end.

    end: "" where a call ends with the answer. parse: (the text, tools as JSON) -> {"name", "arguments"} or a list
    of those; it may raise anything. is_native: the template shows tools, calls and results itself; else they are
    written as plain messages (engine.prompt.tool_prompt). is_json: what stands between start and end is an object of
    JSON with name and arguments.
    """

    start: str
    end: str
    parse: Callable[[str, Any], Any]
    is_native: bool
    is_json: bool = False


def _json_call(text: str, _tools: Any) -> Any:
    return json.loads(text)


PLAIN_TOOLS = ToolFormat(CALL_START, CALL_END, _json_call, is_native=False, is_json=True)
"""JSON between two marks, as Hermes and Qwen write it: the way of models whose template has none, and of every call
that is forced."""


def template_text(tokenizer: Any, processor: Any = None) -> str:
    """The source of a model's chat template; of several, all of them. "" for none and for one that is no text."""
    template = getattr(tokenizer, "chat_template", None) or getattr(processor, "chat_template", None) or ""
    return "\n".join(map(str, template.values())) if isinstance(template, dict) else str(template)


def template_variables(template: str) -> frozenset[str]:
    """The variables that a template reads, e.g. "tools", "enable_thinking". Empty for one that cannot be read."""
    from jinja2 import Environment, TemplateSyntaxError
    from jinja2.meta import find_undeclared_variables

    environment = Environment(extensions=["jinja2.ext.loopcontrols"])
    try:
        return frozenset(find_undeclared_variables(environment.parse(_GENERATION_TAG.sub("", template))))
    except TemplateSyntaxError:
        return frozenset()


def tool_format(tokenizer: Any, variables: frozenset[str]) -> ToolFormat:
    """The model's own format, where its template shows tools and mlx-lm has a parser for what it writes; else plain.

    tokenizer: mlx-lm's TokenizerWrapper, which chooses the parser by the template.
    """
    if not (tokenizer.has_tool_calling and "tools" in variables):
        return PLAIN_TOOLS
    parse = tokenizer.tool_parser
    is_json = parse is json_tools.parse_tool_call
    return ToolFormat(tokenizer.tool_call_start, tokenizer.tool_call_end, parse, is_native=True, is_json=is_json)
