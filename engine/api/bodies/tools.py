"""Tools that a model may call, in OpenAI's words -> Tool, ToolChoice. Pure. Raises BadRequest.

{"tools": [{"type": "function", "function": {"name": ..., "description": ..., "parameters": {JSON Schema}}}],
 "tool_choice": "none" | "auto" | "required" | {"type": "function", "function": {"name": ...}}
              | {"type": "allowed_tools", "allowed_tools": {"mode": "auto" | "required", "tools": [...]}},
 "parallel_tool_calls": false}
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, StrictBool
from pydantic.fields import Field

from engine.api.bodies.values import one_of, text_of
from engine.errors import BadRequest
from engine.types import Json, Tool, ToolChoice, ToolMode

MAX_TOOLS = 128
MAX_TOOL_NAME_CHARS = 256
MODES: dict[str, ToolMode] = {"none": "none", "auto": "auto", "required": "required"}
READ = frozenset(("type", "name", "description", "parameters", "strict"))
ToolList = Annotated[list[Json], Field(max_length=MAX_TOOLS)]
"""The tools of a body, of every protocol."""


class ToolFields(BaseModel):
    """The fields about tools, of a chat and of a response."""

    tools: ToolList | None = Field(None, description="functions that the model may call")
    tool_choice: str | Json | None = Field(None, description="none, auto, required, or the function to be called")
    parallel_tool_calls: StrictBool | None = Field(None, description="false: at most one call in an answer")


def read_tools(body: ToolFields, *, is_flat: bool = False) -> tuple[Tool, ...]:
    """is_flat: name, description and parameters stand in a tool itself, as in Responses, and not in its "function"."""
    tools = [_tool(raw, f"tools[{i}]", is_flat) for i, raw in enumerate(body.tools or ())]
    return told_apart(tools, "tools[{}].name" if is_flat else "tools[{}].function.name")


def told_apart(tools: Sequence[Tool], param: str) -> tuple[Tool, ...]:
    """The tools, if no two have one name. param: where their names stand, with {} for their place."""
    names: set[str] = set()
    for i, tool in enumerate(tools):
        if tool.name in names:
            where = param.format(i)
            raise BadRequest(f"{where}: there is another tool of this name.", param=where)
        names.add(tool.name)
    return tuple(tools)


def read_choice(body: ToolFields, tools: tuple[Tool, ...], *, is_flat: bool = False) -> ToolChoice:
    """tools: those of the same body. is_flat: see read_tools."""
    asked = body.tool_choice
    mode, names = _asked("auto" if asked is None else asked, "tool_choice", is_flat=is_flat)
    is_one = isinstance(asked, dict) and asked.get("type") == "function"  # which is to be called, once
    parallel = body.parallel_tool_calls is not False and not is_one
    choice = ToolChoice(mode, names, parallel)
    return possible(choice, tools, "tool_choice")


def possible(choice: ToolChoice, tools: Sequence[Tool], param: str) -> ToolChoice:
    """The choice, if there are such tools."""
    if choice.mode == "required" and not tools:
        raise BadRequest(f"{param}: only allowed when tools are given.", param=param)
    if not tools:
        return ToolChoice()
    known = {tool.name for tool in tools}
    for name in choice.names:
        if name not in known:
            raise BadRequest(f"{param}: there is no tool {name!r} in tools.", param=param)
    return choice


def ignored_in_tools(body: ToolFields) -> Iterator[str]:
    """Paths of what was said about tools and has no effect."""
    for i, raw in enumerate(body.tools or ()):
        function, where = _function(raw, f"tools[{i}]", "function" not in raw)
        for name, value in function.items() if isinstance(function, dict) else ():
            if name not in READ and value is not None:
                yield f"{where}.{name}"


def _tool(raw: Json, param: str, is_flat: bool) -> Tool:
    if raw.get("type", None if is_flat else "function") != "function":
        why = "only tools of type function are served; this server runs none of its own"
        raise BadRequest(f"{param}.type: {why}.", param=f"{param}.type", code="unsupported_parameter")
    function, param = _function(raw, param, is_flat)
    if not isinstance(function, dict):
        raise BadRequest(f"{param}: it must be an object with a name.", param=param)
    return read_function(function, param)


def read_function(function: Json, param: str, schema: str = "parameters") -> Tool:
    """A function by its name, description and the JSON Schema of its arguments. param: where the function stands;
    schema: its field with that schema."""
    name, description = function.get("name"), function.get("description") or ""
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_TOOL_NAME_CHARS:
        why = f"it must be a string of 1 to {MAX_TOOL_NAME_CHARS} characters"
        raise BadRequest(f"{param}.name: {why}.", param=f"{param}.name")
    if not isinstance(description, str):
        raise BadRequest(f"{param}.description: it must be a string.", param=f"{param}.description")
    parameters = function.get(schema)
    if not isinstance(parameters, dict | None) or (parameters or {}).get("type", "object") != "object":
        why = "it must be a JSON Schema of type object"
        raise BadRequest(f"{param}.{schema}: {why}.", param=f"{param}.{schema}")
    strict = function.get("strict")
    if not isinstance(strict, bool | None):
        raise BadRequest(f"{param}.strict: it must be true or false.", param=f"{param}.strict")
    return Tool(name, description, parameters, bool(strict), f"{param}.{schema}")


def _asked(choice: str | Json, param: str, *, is_flat: bool) -> tuple[ToolMode, tuple[str, ...]]:
    """The mode, and the names of the tools that may be called, () for all."""
    if isinstance(choice, str):
        if choice not in MODES:
            raise BadRequest(f"{param}: it must be one of {', '.join(MODES)}, or an object.", param=param)
        return MODES[choice], ()
    kind = one_of(choice.get("type"), ("function", "allowed_tools"), f"{param}.type", "unsupported_parameter")
    if kind == "function":
        return "required", (_name(choice, param, is_flat=is_flat),)
    allowed, param = (choice, param) if is_flat else (choice.get("allowed_tools"), f"{param}.allowed_tools")
    if not isinstance(allowed, dict):
        raise BadRequest(f"{param}: it must be an object with mode and tools.", param=param)
    mode = one_of(allowed.get("mode"), ("auto", "required"), f"{param}.mode")
    tools, param = allowed.get("tools"), f"{param}.tools"
    if not isinstance(tools, list) or not tools:
        raise BadRequest(f"{param}: it must be an array of at least one tool.", param=param)
    return MODES[mode], tuple(_name(tool, f"{param}[{i}]", is_flat=is_flat) for i, tool in enumerate(tools))


def _name(raw: Any, param: str, *, is_flat: bool) -> str:
    function, where = _function(raw, param, is_flat) if isinstance(raw, dict) else (None, param)
    return text_of(function if isinstance(function, dict) else {}, "name", where)


def _function(raw: Json, param: str, is_flat: bool) -> tuple[Any, str]:
    """What a tool is as a function, and where that stands."""
    return (raw, param) if is_flat else (raw.get("function"), f"{param}.function")
