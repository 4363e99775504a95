"""The JSON that Anthropic's clients send. Messages are checked in `convert`, where the path of a field is known."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, StrictInt

from engine.api.bodies.generation import MAX_COUNT, GenerationBody
from engine.api.bodies.refused import Refusals, other_than
from engine.api.bodies.tools import ToolList


def _edits_more_than_thinking(value: Any) -> bool:
    """Of what is thought earlier nothing is shown to the model that its template does not show."""
    edits = value.get("edits") if isinstance(value, dict) else value
    if not isinstance(value, dict) or not isinstance(edits, list):
        return bool(edits)
    kinds = [edit.get("type") if isinstance(edit, dict) else "" for edit in edits]
    return not all(str(kind).startswith("clear_thinking") for kind in kinds)


REFUSED: Refusals = {
    "mcp_servers": (bool, "this server calls no other servers"),
    "container": (bool, "there are no containers here"),
    "context_management": (_edits_more_than_thinking, "messages are not edited here; send those that shall be read"),
    "inference_geo": (other_than("global"), "everything runs on this machine"),
    "speed": (other_than("standard"), "there is one speed"),
    "stop": (bool, "it is called stop_sequences here"),
    "n": (other_than(1), "one answer per message"),
}


class CountRequest(GenerationBody):
    """POST /v1/messages/count_tokens: a message without what says how it is answered."""

    refusals: ClassVar[Refusals] = REFUSED

    messages: list[dict[str, Any]]
    system: str | list[dict[str, Any]] | None = None
    tools: ToolList | None = None
    tool_choice: dict[str, Any] | None = None
    cache_control: dict[str, Any] | None = Field(None, description="what is computed is kept in any case")
    thinking: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = Field(None, description="format: a JSON Schema of the answer; effort")
    output_format: dict[str, Any] | None = Field(None, description="the older name of output_config.format")


class MessagesRequest(CountRequest):
    """POST /v1/messages."""

    max_tokens: StrictInt = Field(ge=1, le=MAX_COUNT)
    stop_sequences: list[str] | None = Field(None, description="texts that end the answer")
