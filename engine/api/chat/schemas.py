"""The JSON of a chat completion."""

from __future__ import annotations

from typing import Any

from pydantic import Field, FiniteFloat, StrictBool, StrictInt

from engine.api.bodies.generation import MAX_COUNT, MAX_TOP_LOGPROBS, GenerationBody
from engine.api.bodies.reasoning import ReasoningFields
from engine.api.bodies.tools import ToolFields
from engine.types import NO_LIMIT


class ChatRequest(GenerationBody, ToolFields, ReasoningFields):
    """POST /v1/chat/completions."""

    messages: list[dict[str, Any]]
    max_completion_tokens: StrictInt | None = Field(
        None, ge=NO_LIMIT, le=MAX_COUNT, description="the newer name of max_tokens"
    )
    logprobs: StrictBool | None = Field(None, description="each token of the answer with its log-probability")
    top_logprobs: StrictInt | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS, description="and so many of the likeliest")
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: StrictBool | None = Field(None, description="false: the template opens no new message")
    continue_final_message: StrictBool | None = Field(None, description="the answer goes on from the last message")
    video_fps: FiniteFloat | None = Field(None, gt=0, description="frames per second taken from a clip")
    video_max_frames: StrictInt | None = Field(None, ge=1, description="most frames taken from a clip")
    video_min_frames: StrictInt | None = Field(None, ge=1, description="fewest frames taken from a clip")
    video_start: FiniteFloat | None = Field(None, ge=0, description="where the stretch begins, in seconds")
    video_end: FiniteFloat | None = Field(None, gt=0, description="where the stretch ends, in seconds")
    video_max_pixels: StrictInt | None = Field(None, ge=1, description="most pixels of all frames together")
