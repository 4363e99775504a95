"""The JSON of POST /v1/responses. Items are checked in `items`, where the whole path of a field is known."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, StrictInt, StringConstraints

from engine.api.refused import Refusals
from engine.api.schemas import MAX_COUNT, MAX_TOP_LOGPROBS, GenerationBody

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


class CountedResponse(GenerationBody):
    """What makes the prompt: POST /v1/responses/input_tokens, and the better part of POST /v1/responses."""

    input: str | list[dict[str, Any]] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: StrictBool | None = None
    reasoning: dict[str, Any] | None = None
    text: dict[str, Any] | None = None


class ResponsesRequest(CountedResponse):
    """POST /v1/responses."""

    max_output_tokens: StrictInt | None = Field(None, ge=1, le=MAX_COUNT)
    top_logprobs: StrictInt | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)
    include: list[str] | None = None
    store: StrictBool | None = Field(None, description="kept for previous_response_id and GET; true if left out")
    metadata: dict[str, Annotated[str, StringConstraints(max_length=512)]] | None = Field(None, max_length=16)
    truncation: Literal["auto", "disabled"] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: str | None = None


REFUSED: Refusals = (
    ("background", bool, "answers are given while the client waits"),
    ("conversation", bool, "conversations are not kept here; use previous_response_id"),
    ("prompt", bool, "prompts are not kept here; send instructions and input"),
    ("moderation", bool, "nothing is moderated here"),
    ("context_management", bool, "input is never shortened here; send what shall be read"),
    ("truncation", lambda value: value == "auto", "input is never shortened here; what does not fit is refused"),
    ("max_tool_calls", lambda value: value is not None, "this server runs no tools of its own"),
    ("max_tokens", lambda value: value is not None, "it is called max_output_tokens here"),
    ("messages", bool, "it is called input here"),
    ("response_format", bool, "it is called text.format here"),
    ("n", lambda value: value not in (None, 1), "one answer per response"),
)
