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

from engine.errors import BadRequest
from engine.types import Json, Tool, ToolChoice, ToolMode

MAX_TOOLS = 128
MAX_TOOL_NAME_CHARS = 256
MODES: dict[str, ToolMode] = {"none": "none", "auto": "auto", "required": "required"}
READ = frozenset(("name", "description", "parameters", "strict"))
ToolList = Annotated[list[Json], Field(max_length=MAX_TOOLS)]
"""The tools of a body, of every protocol."""


class ToolFields(BaseModel):
    """The fields of a chat about tools."""

    tools: ToolList | None = Field(None, description="functions that the model may call")
    tool_choice: str | Json | None = Field(None, description="none, auto, required, or the function to be called")
    parallel_tool_calls: StrictBool | None = Field(None, description="false: at most one call in an answer")


def read_tools(body: ToolFields) -> tuple[Tool, ...]:
    return told_apart([_tool(raw, f"tools[{i}]") for i, raw in enumerate(body.tools or ())], "tools[{}].function.name")


def told_apart(tools: Sequence[Tool], param: str) -> tuple[Tool, ...]:
    """The tools, if no two have one name. param: where their names stand, with {} for their place."""
    names: set[str] = set()
    for i, tool in enumerate(tools):
        if tool.name in names:
            where = param.format(i)
            raise BadRequest(f"{where}: there is another tool of this name.", param=where)
        names.add(tool.name)
    return tuple(tools)


def read_choice(body: ToolFields, tools: tuple[Tool, ...]) -> ToolChoice:
    """tools: those of the same body."""
    asked = body.tool_choice
    mode, names = _asked("auto" if asked is None else asked, "tool_choice")
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
    is_forced = body.tool_choice == "required" or isinstance(body.tool_choice, dict)
    for i, raw in enumerate(body.tools or ()):
        function = raw.get("function")
        for name, value in function.items() if isinstance(function, dict) else ():
            is_strict = name == "strict" and value and not is_forced
            if (name not in READ and value is not None) or is_strict:
                yield f"tools[{i}].function.{name}"


def _tool(raw: Json, param: str) -> Tool:
    if raw.get("type", "function") != "function":
        why = "only tools of type function are served"
        raise BadRequest(f"{param}.type: {why}.", param=f"{param}.type", code="unsupported_parameter")
    function, param = raw.get("function"), f"{param}.function"
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
    return Tool(name, description, parameters, f"{param}.{schema}")


def _asked(choice: str | Json, param: str) -> tuple[ToolMode, tuple[str, ...]]:
    """The mode, and the names of the tools that may be called, () for all."""
    if isinstance(choice, str):
        if choice not in MODES:
            raise BadRequest(f"{param}: it must be one of {', '.join(MODES)}, or an object.", param=param)
        return MODES[choice], ()
    if choice.get("type") == "function":
        return "required", (_name(choice, param),)
    if choice.get("type") != "allowed_tools":
        why = "it must be function or allowed_tools"
        raise BadRequest(f"{param}.type: {why}.", param=f"{param}.type", code="unsupported_parameter")
    allowed, param = choice.get("allowed_tools"), f"{param}.allowed_tools"
    if not isinstance(allowed, dict) or allowed.get("mode") not in ("auto", "required"):
        raise BadRequest(f"{param}: it must be an object whose mode is auto or required.", param=param)
    tools, param = allowed.get("tools"), f"{param}.tools"
    if not isinstance(tools, list) or not tools:
        raise BadRequest(f"{param}: it must be an array of at least one tool.", param=param)
    return MODES[allowed["mode"]], tuple(_name(tool, f"{param}[{i}]") for i, tool in enumerate(tools))


def _name(raw: Any, param: str) -> str:
    function: Any = raw.get("function") if isinstance(raw, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        raise BadRequest(f"{param}.function.name: this field is required.", param=f"{param}.function.name")
    return name
