"""The JSON of POST /v1/responses. Items are checked in `items`, where the whole path of a field is known."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StrictBool, StrictInt, StringConstraints

from engine.api.bodies.generation import MAX_COUNT, MAX_TOP_LOGPROBS, GenerationBody
from engine.api.bodies.refused import Refusals, other_than
from engine.api.bodies.tools import ToolFields

INCLUDABLE = (
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
)
"""OpenAI's list. All but the first add to items that come whole here, or that no tool of this server makes."""


REFUSED: Refusals = {
    "background": (bool, "answers are given while the client waits"),
    "conversation": (bool, "conversations are not kept here; use previous_response_id"),
    "prompt": (bool, "prompts are not kept here; send instructions and input"),
    "moderation": (bool, "nothing is moderated here"),
    "context_management": (bool, "input is never shortened here; send what shall be read"),
    "truncation": (lambda value: value == "auto", "input is never shortened here; what does not fit is refused"),
    "max_tool_calls": (other_than(), "this server runs no tools of its own"),
    "max_tokens": (other_than(), "it is called max_output_tokens here"),
    "messages": (bool, "it is called input here"),
    "response_format": (bool, "it is called text.format here"),
    "n": (other_than(1), "one answer per response"),
}

ShortText = Annotated[str, StringConstraints(max_length=512)]
"""A label: it is given back, and says nothing to the model."""


class CountedResponse(GenerationBody, ToolFields):
    """What makes the prompt: POST /v1/responses/input_tokens, and the better part of POST /v1/responses."""

    refusals: ClassVar[Refusals] = REFUSED

    input: str | list[dict[str, Any]] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    reasoning: dict[str, Any] | None = None
    text: dict[str, Any] | None = None


class ResponsesRequest(CountedResponse):
    """POST /v1/responses."""

    max_output_tokens: StrictInt | None = Field(None, ge=1, le=MAX_COUNT)
    top_logprobs: StrictInt | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)
    include: list[str] | None = None
    store: StrictBool | None = Field(None, description="kept for previous_response_id and GET; true if left out")
    metadata: dict[ShortText, ShortText] | None = Field(None, max_length=16)
    truncation: Literal["auto", "disabled"] | None = None
    user: ShortText | None = None
    safety_identifier: ShortText | None = None
    prompt_cache_key: ShortText | None = None
    service_tier: ShortText | None = None
