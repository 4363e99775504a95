"""POST /v1/audio/transcriptions: a sound as a form, answered by a model that hears as a chat about it.

https://platform.openai.com/docs/api-reference/audio/createTranscription
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError
from starlette.datastructures import FormData, UploadFile

from engine.access.visibility import Caller
from engine.api.answering.exchange import Exchange
from engine.api.answering.sse import SERVER_SENT, Piece, Wire
from engine.api.bodies.generation import between
from engine.api.bodies.json_body import explain
from engine.api.bodies.refused import Refusals, other_than
from engine.api.http.guard import guarded_route
from engine.api.http.openapi import form_with_file
from engine.config import ServerConfig
from engine.core import Engine
from engine.errors import BadRequest, EngineError
from engine.types import Delta, Done, Json, Message, Part, Reasoning, Sampling
from engine.types import Request as Generation

MAX_FIELDS = 32
INSTRUCTION = "Transcribe this sound word for word. Answer with the transcript only."
FORMATS = ("json", "text")
REFUSED: Refusals = {
    "response_format": (
        other_than(*FORMATS),
        f"a chat model hears no times, so it is one of {', '.join(FORMATS)}",
    ),
    "timestamp_granularities[]": (bool, "a chat model hears no times"),
    "timestamp_granularities": (bool, "a chat model hears no times"),
    "include[]": (bool, "log probabilities are on /v1/chat/completions"),
    "include": (bool, "log probabilities are on /v1/chat/completions"),
    "chunking_strategy": (other_than("", "auto"), "a sound is heard as a whole"),
    "known_speaker_names[]": (bool, "speakers are not told apart"),
    "known_speaker_references[]": (bool, "speakers are not told apart"),
}


class TranscriptionRequest(BaseModel):
    """The fields of the form beside its file; all of them come as text."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())
    refusals: ClassVar[Refusals] = REFUSED

    model: str | None = None
    language: str = Field("", max_length=64)
    prompt: str = ""
    response_format: str = "json"
    temperature: FiniteFloat = between("temperature", 0.0)
    stream: bool = False


FORM = form_with_file(TranscriptionRequest.model_json_schema()["properties"])


def transcriptions_router(engine: Engine, config: ServerConfig) -> APIRouter:
    """Transcriptions. A model that does not hear refuses the file by name."""
    router = APIRouter(prefix="/v1/audio", tags=["OpenAI"], route_class=guarded_route(config))

    @router.post("/transcriptions", summary="What is said in a sound, from a model that hears", openapi_extra=FORM)
    async def transcriptions(http: Request) -> Response:
        async with http.form(max_files=1, max_fields=MAX_FIELDS) as form:
            body, sound = read_form(form), await _sound(form)
        exchange = await Exchange.begin(engine, http, body, body.model)
        request = exchange.asked(transcription_request(body, sound, exchange.id, exchange.who))
        answer = Transcript()
        response = await exchange.answer(engine.stream(request), answer, is_streamed=body.stream)
        if body.response_format == "text" and answer.usage and not body.stream:
            return PlainTextResponse(f"{answer.text.strip()}\n", headers=dict(exchange.headers))
        return response

    return router


def read_form(form: FormData) -> TranscriptionRequest:
    """Raises BadRequest, which names the field."""
    fields: dict[str, Any] = {name: value for name, value in form.items() if isinstance(value, str)}
    try:
        body = TranscriptionRequest.model_validate(fields)
    except ValidationError as error:
        raise explain([{**e, "loc": ("body", *e["loc"])} for e in error.errors()], fields) from error
    return body


async def _sound(form: FormData) -> Part:
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise BadRequest("file: this field is required, as a file.", param="file", code="missing_required_parameter")
    data = base64.b64encode(await file.read()).decode()
    return Part("audio", url=f"data:;base64,{data}", param="file")


def transcription_request(body: TranscriptionRequest, sound: Part, request_id: str, who: Caller) -> Generation:
    """A chat about the sound. prompt: what its speech goes on from, or words that are in it."""
    words = [INSTRUCTION]
    if body.language:
        words.append(f"The language of the speech is {body.language}.")
    if body.prompt:
        words.append(f"This may help to write names and words right: {body.prompt}")
    return Generation(
        messages=(Message("user", (sound, Part("text", text=" ".join(words), param="prompt"))),),
        sampling=Sampling(temperature=body.temperature),
        reasoning=Reasoning(enabled=False),
        id=request_id,
        tenant=who.tenant(),
    )


@dataclass
class Transcript:
    """A transcript as it grows."""

    text: str = ""
    usage: Json = field(default_factory=dict)
    wire: ClassVar[Wire] = SERVER_SENT

    def whole(self) -> Json:
        return {"text": self.text.strip(), "usage": self.usage}

    def opening(self) -> Iterator[Piece]:
        yield from ()

    def waiting(self) -> Iterator[Piece]:
        yield from ()

    def pieces(self, delta: Delta) -> Iterator[Piece]:
        if delta.text and delta.channel == "text":
            self.text += delta.text
            yield "", {"type": "transcript.text.delta", "delta": delta.text}

    def ending(self, done: Done) -> Iterator[Piece]:
        usage = done.usage
        self.usage = {
            "type": "tokens",
            "input_tokens": usage.prompt_tokens,
            "input_token_details": {"cached_tokens": usage.cached_tokens},
            "output_tokens": usage.completion_tokens,
            "total_tokens": usage.total_tokens,
        }
        yield "", {"type": "transcript.text.done", **self.whole()}

    def failed(self, error: EngineError) -> Iterator[Piece]:
        yield "", error.to_openai()
