"""The JSON of a text completion."""

from __future__ import annotations

from pydantic import Field, StrictBool, StrictInt

from engine.api.bodies.generation import (
    LIMIT,
    MAX_CHOICES_PER_REQUEST,
    MAX_COUNT,
    MAX_TOP_LOGPROBS,
    GenerationBody,
    TokenId,
)
from engine.types import NO_LIMIT


class TextRequest(GenerationBody):
    """POST /v1/completions."""

    prompt: str | list[str] | list[TokenId] | list[list[TokenId]]
    max_tokens: StrictInt | None = Field(None, ge=NO_LIMIT, le=MAX_COUNT, description=f"{LIMIT}; 0: an echo only")
    add_special_tokens: StrictBool | None = Field(None, description="false: a text without the tokenizer's own")
    echo: StrictBool | None = Field(None, description="the prompt stands before its answer")
    logprobs: StrictInt | None = Field(
        None, ge=0, le=MAX_TOP_LOGPROBS, description="so many of the likeliest beside each"
    )
    best_of: StrictInt | None = Field(None, ge=1, le=MAX_CHOICES_PER_REQUEST, description="no other number than n")
