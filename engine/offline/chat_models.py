"""MLXLanguageModel and MLXMultimodalLM: one prompt at a time, with a short name for each thing that is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, Unpack

from engine.offline import requests
from engine.offline.answer_html import as_html
from engine.offline.inputs import media, medium
from engine.offline.options import ModelOptions, engine_config
from engine.offline.shared import EngineLease, SharedEngine
from engine.types import (
    CacheTrace,
    Completion,
    Delta,
    Json,
    MediaReceipt,
    ModelCard,
    Request,
    Timing,
    ToolCall,
    Usage,
)


@dataclass(frozen=True, slots=True)
class GenerationOutput:
    """An answer; printing it prints its text. media: the receipt of each picture, clip and sound; in a notebook they
    are shown under the text. thumbnails: a small PNG of each, None for a sound.

    >>> answer = GenerationOutput("Red & round.", (5, 2), "stop", Usage(10, 2), Timing())
    >>> print(answer)
    Red & round.
    >>> "Red &amp; round." in answer._repr_html_()
    True
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    usage: Usage
    timing: Timing
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    media: tuple[MediaReceipt, ...] = ()
    thumbnails: tuple[bytes | None, ...] = ()
    trace: CacheTrace | None = None

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return as_html(self.text, self.media, self.thumbnails)


@dataclass(frozen=True, slots=True)
class StreamingOutput:
    """A piece of an answer. finish_reason: of the last piece, else None.

    >>> print(StreamingOutput("A red "), StreamingOutput("circle.", (7,), "stop"), sep="")
    A red circle.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    finish_reason: str | None = None

    @property
    def finished(self) -> bool:
        return self.finish_reason is not None

    def __str__(self) -> str:
        return self.text


class MLXLanguageModel:
    """A model that answers texts. model: "demo", a folder or a hub id; options: ModelOptions. It is loaded by load(),
    or by the first call that needs it; objects with the same model and options share one.

    Of each method the last keywords are those of /v1's bodies: max_tokens, temperature, top_p, seed, stop, n is 1,
    tools, response_format …; temperature and the like default to the model's own. Raises EngineError.

    >>> model = MLXLanguageModel("demo").load()
    >>> model.generate("Hello", max_tokens=4, temperature=0).usage.completion_tokens
    4
    >>> print(model.chat([{"role": "user", "content": "What color is it?"}], max_tokens=3, temperature=0).finish_reason)
    length
    >>> sum(len(piece.token_ids) for piece in model.stream_generate("Hello", max_tokens=4, temperature=0))
    4
    >>> model.close()
    """

    def __init__(self, model: str | Path, **options: Unpack[ModelOptions]) -> None:
        self._config = engine_config(model, options)
        self._held: EngineLease | None = None
        self._is_closed = False

    def load(self) -> Self:
        """Load the model, and wait until it is there."""
        self._shared.run(self._shared.engine.ready())
        return self

    @property
    def card(self) -> ModelCard:
        """What the model is and takes. Loads it."""
        return self._shared.run(self._shared.engine.ready())

    def generate(self, prompt: str, **fields: Any) -> GenerationOutput:
        """Continue a text as it is, without the model's chat template. fields: of /v1/completions."""
        return self._answer(requests.completion(prompt, fields))

    def stream_generate(self, prompt: str, **fields: Any) -> Iterator[StreamingOutput]:
        """The same, piece by piece. Closing the iterator ends the answer."""
        return self._pieces(requests.completion(prompt, fields))

    def chat(self, messages: Sequence[Json], **fields: Any) -> GenerationOutput:
        """Answer a conversation, as OpenAI writes it. fields: of /v1/chat/completions. Media may be objects of this
        program; to name a file in a message use a Path, since a text there may come from outside."""
        return self._answer(requests.chat(messages, fields, self._config.media))

    def stream_chat(self, messages: Sequence[Json], **fields: Any) -> Iterator[StreamingOutput]:
        """The same, piece by piece."""
        return self._pieces(requests.chat(messages, fields, self._config.media))

    def close(self) -> None:
        """Give the model back; it leaves memory where no other object shares it. Idempotent, and not needed at the end
        of a script."""
        self._is_closed = True
        if self._held is not None:
            self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _shared(self) -> SharedEngine:
        """Taken by whoever needs it first. Raises Unavailable after close()."""
        if self._held is None:
            self._held = EngineLease(self._config)
            if self._is_closed:
                self._held.close()
        return self._held.shared

    def _answer(self, request: Request) -> GenerationOutput:
        shared = self._shared
        (completion,) = shared.run_all([replace(request, n=1)], lambda _: None)
        return _output(completion, [shared.engine.thumbnail(one.sha256) for one in completion.done.media])

    def _pieces(self, request: Request) -> Iterator[StreamingOutput]:
        for event in self._shared.iterate(request):
            if isinstance(event, Delta) and event.channel == "text":
                yield StreamingOutput(event.text, tuple(token.id for token in event.tokens), event.finish_reason)


class MLXMultimodalLM(MLXLanguageModel):
    """A model that sees. Pictures, clips and sounds are given as in engine.offline.inputs: paths, URLs, bytes, PIL
    images, numpy arrays; clips also as lists of frames.

    >>> from engine.assets import asset
    >>> samples = asset("samples")
    >>> model = MLXMultimodalLM("demo")
    >>> print(model.describe_image(samples / "circle.png", temperature=0))
    A large red circle in the center.
    >>> print(model.answer_about_image(samples / "circle.png", "What color is it?", temperature=0))
    It is red.
    >>> print(model.describe_video(samples / "moving-circle.mp4", fps=2.0, temperature=0))
    A red circle moves to the right.
    >>> pair = [samples / "pair-a.png", samples / "pair-b.png"]
    >>> print(model.generate(prompt="Compare these images.", images=pair, temperature=0))
    The first image shows a blue square, the second an orange square. The color differs.
    >>> model.close()
    """

    def generate(self, prompt: str, **fields: Any) -> GenerationOutput:
        """Answer a question, by the model's chat template. fields: images, videos, audios, and those of chat()."""
        return self._answer(self._question(prompt, fields))

    def stream_generate(self, prompt: str, **fields: Any) -> Iterator[StreamingOutput]:
        """The same, piece by piece."""
        return self._pieces(self._question(prompt, fields))

    def describe_image(self, image: Any, prompt: str = "Describe this image.", **fields: Any) -> GenerationOutput:
        return self.generate(prompt, images=[image], **fields)

    def answer_about_image(self, image: Any, question: str, **fields: Any) -> GenerationOutput:
        return self.generate(question, images=[image], **fields)

    def describe_video(
        self, video: Any, prompt: str = "What happens in this video?", fps: float | None = None, **fields: Any
    ) -> GenerationOutput:
        """fps: frames per second taken from the clip, as video_fps; video_max_frames bounds their number."""
        return self.generate(prompt, videos=[video], video_fps=fps, **fields)

    def _question(self, prompt: str, fields: Mapping[str, Any]) -> Request:
        rest = dict(fields)
        given = {name: rest.pop(name, None) for name in ("images", "videos", "audios")}
        parts = media("image", given["images"] or [], "images")
        for i, video in enumerate(_several(given["videos"])):
            parts.append(medium("video", video, f"videos[{i}]"))
        for i, audio in enumerate(_several(given["audios"])):
            parts.append(medium("audio", audio, f"audios[{i}]"))
        return requests.question(prompt, parts, rest, self._config.media)


MLXVisionLanguageModel = MLXMultimodalLM


def _several(given: Any) -> Sequence[Any]:
    """A list of media; one by itself is taken for a list of it."""
    if given is None:
        return ()
    return given if isinstance(given, list) else [given]


def _output(completion: Completion, thumbnails: Sequence[bytes | None]) -> GenerationOutput:
    choice, done = completion.choices[0], completion.done
    return GenerationOutput(
        text=choice.text,
        token_ids=choice.token_ids,
        finish_reason=choice.finish_reason,
        usage=done.usage,
        timing=done.timing,
        reasoning=choice.reasoning,
        tool_calls=choice.tool_calls,
        media=done.media,
        thumbnails=tuple(thumbnails),
        trace=done.trace,
    )
