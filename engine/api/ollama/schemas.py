"""The JSON that Ollama's clients send. Messages are checked in `convert`, where the whole path of a field is known."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StrictBool, StrictInt, field_validator, model_validator

from engine.api.bodies.generation import MAX_COUNT, MAX_SEED, between
from engine.api.bodies.json_body import WholeNumbers, readable
from engine.api.bodies.refused import Refusals, other_than
from engine.api.bodies.tools import ToolList

REFUSED: Refusals = {
    "suffix": (bool, "text is only continued, never inserted before a suffix"),
    "template": (bool, "the model's own template is used; say raw to send a whole prompt"),
    "context": (bool, "send the conversation as messages; what was computed is reused without it"),
    "logprobs": (bool, "log probabilities are on /v1/chat/completions and /v1/completions"),
    "top_logprobs": (bool, "log probabilities are on /v1/chat/completions and /v1/completions"),
    "truncate": (lambda value: value is True, "nothing is cut off a conversation; what does not fit is refused"),
}

REFUSED_OPTIONS: Refusals = {
    "mirostat": (other_than(0), "not sampled so here"),
    "tfs_z": (other_than(1), "not sampled so here"),
    "typical_p": (other_than(1), "not sampled so here"),
    "repeat_last_n": (other_than(), "penalties look at all of the last tokens that count here"),
}


class Options(WholeNumbers):
    """How an answer is sampled. num_predict: -1 and -2 are "as many as fit"."""

    model_config = ConfigDict(extra="allow")
    refusals: ClassVar[Refusals] = REFUSED_OPTIONS

    temperature: FiniteFloat | None = between("temperature")
    top_p: FiniteFloat | None = between("top_p")
    top_k: StrictInt | None = Field(None, ge=-1, le=MAX_COUNT)
    min_p: FiniteFloat | None = between("min_p")
    repeat_penalty: FiniteFloat | None = between("repetition_penalty")
    presence_penalty: FiniteFloat | None = between("presence_penalty")
    frequency_penalty: FiniteFloat | None = between("frequency_penalty")
    seed: StrictInt | None = Field(None, ge=-MAX_SEED - 1, le=MAX_SEED)
    stop: str | list[str] | None = None
    num_predict: StrictInt | None = Field(None, ge=-2, le=MAX_COUNT)


class OllamaBody(BaseModel):
    """What /api/chat and /api/generate both take. keep_alive: 0 without a question takes the
    model out of memory; beside one it has no effect, the model stays."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())
    refusals: ClassVar[Refusals] = REFUSED

    @model_validator(mode="before")
    @classmethod
    def _readable(cls, body: Any) -> Any:
        return readable(body)

    model: str
    stream: StrictBool | None = Field(None, description="true if left out", validate_default=True)
    format: str | dict[str, Any] | None = Field(None, description='"json" or a JSON Schema')
    options: Options | None = None
    think: StrictBool | str | None = None
    keep_alive: str | float | None = None

    @property
    def asks_to_unload(self) -> bool:
        """Of a request without a question."""
        return self.keep_alive is not None and _is_zero(self.keep_alive)

    @field_validator("stream")
    @classmethod
    def _streamed_if_left_out(cls, value: bool | None) -> bool:
        return value is not False


def _is_zero(duration: str | float) -> bool:
    """Seconds, or as Go writes a duration: "0", "0s", "0m0s"."""
    digits = re.findall(r"[0-9.]+", duration) if isinstance(duration, str) else [duration]
    try:
        return bool(digits) and not any(map(float, digits))
    except ValueError:
        return False


class OllamaChatRequest(OllamaBody):
    """POST /api/chat."""

    messages: list[dict[str, Any]] = Field(default_factory=list)
    tools: ToolList | None = None


class GenerateRequest(OllamaBody):
    """POST /api/generate: a text, put into the model's template unless raw."""

    prompt: str = ""
    system: str | None = None
    images: list[Any] | None = None
    raw: StrictBool | None = None


class ShowRequest(BaseModel):
    """POST /api/show. name: the older name of model."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    model: str | None = None
    name: str | None = None
