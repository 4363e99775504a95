"""An answer's coordinates in pixels of the medium as it came, for programs that click where a model says: in its text
and in the arguments of its tool calls, as they stream. Pure Python; the event loop's thread.

A text is held back only where coordinates may have begun (engine.grounding.notation). The arguments of a call are held
back to the end of the call: what a number in them means is told by its name and by those beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from engine.errors import BadRequest
from engine.grounding.arguments import rewritten
from engine.grounding.forms import FORMS, Form
from engine.grounding.notation import MOST_HELD, GrowingText, Rewriter
from engine.grounding.place import MediumSize, Scale, Sized, meant, scale_of
from engine.types import CoordinatesGiven, Delta, Done, Event, Message, Request, ToolCallDelta

if TYPE_CHECKING:
    from engine.types.media import Media

_OF_TOKENS = "log-probabilities belong to the tokens that the model wrote, so with them its text stays as it is"
_NO_MEDIUM = "the request has no picture or clip"
_NO_SIZE = "the size that the model saw is not known"
_NO_JSON = "the arguments of a call are no JSON, or too deep, and stand as the model wrote them"
_TOO_LONG = f"a list of coordinates is longer than {MOST_HELD:,} characters and stands as the model wrote it"


def why_not(request: Request, model_type: str) -> str:
    """Why an answer's coordinates cannot be given in pixels of the original; "" where they can."""
    if request.logprobs is not None:
        return _OF_TOKENS
    if request.media_parts and model_type not in FORMS:
        return f"what coordinates of {model_type} count is not known"
    return "" if request.media_parts else _NO_MEDIUM


def check_coordinates(request: Request, model_type: str) -> None:
    """Raise BadRequest where a request asks by name for what cannot be done. One without a picture has nothing to click
    on; it is answered, and told so."""
    why = why_not(request, model_type) if request.coordinates == "original" else ""
    if why and why != _NO_MEDIUM:
        raise BadRequest(f"coordinates: {why}.", param="coordinates", code="unsupported_parameter")


def with_own_coordinates(request: Request, media: Sequence[Media], model_type: str) -> Request:
    """The request as the model wrote its earlier answers: their coordinates, which a client has in pixels of the last
    medium before them, as the model counts. Not for models that write pixels of what they saw, which is not known yet.

    media: those of the request, in their order."""
    form = FORMS.get(model_type)
    if form is None or form.steps is None:
        return request
    sizes = [MediumSize(medium.kind, medium.decoded_px, crop=medium.crop) for medium in media]
    out, num_media = [], 0
    for message in request.messages:
        at = meant(sizes[:num_media])
        scale = scale_of(sizes[at], form) if at is not None else None
        out.append(_as_written(message, form, scale) if message.role == "assistant" and scale else message)
        num_media += sum(part.kind != "text" for part in message.parts)
    return replace(request, messages=tuple(out))


def _as_written(message: Message, form: Form, scale: Scale) -> Message:
    digits = 1 if form.steps == 100 else 0

    def convert(number: float, axis: int, *, is_point: bool) -> float:
        return round(scale.written(number, axis), digits)

    rewriter = Rewriter(form, convert)
    parts = tuple(
        replace(part, text=rewriter.whole(part.text)) if part.kind == "text" else part for part in message.parts
    )
    calls = tuple(
        replace(call, arguments=rewritten(call.arguments, rewriter) or call.arguments) for call in message.tool_calls
    )
    return replace(message, parts=parts, tool_calls=calls)


@dataclass(slots=True)
class _Choice:
    """call: the one that is being written, with its arguments so far."""

    text: GrowingText
    call: ToolCallDelta | None = None


class CoordinateWriter:
    """The events of one request with its coordinates in pixels of the original."""

    def __init__(self, form: Form | None, media: Callable[[], Sequence[Sized]], why: str) -> None:
        """media: of the prompt, asked for at the first event. why: see why_not; nothing is changed then."""
        self._form = form
        self._media = media
        self._why = why
        self._rewriter: Rewriter | None = None
        self._choices: dict[int, _Choice] = {}

    def write(self, event: Event) -> Iterator[Event]:
        """What a client gets of this event, and of those before it whose text was held back."""
        if isinstance(event, Done):
            yield replace(event, coordinates=self._given())
        elif (rewriter := self._of_prompt()) is None:
            yield event
        else:
            choice = self._choices.setdefault(event.index, _Choice(GrowingText(rewriter)))
            yield from self._delta(event, choice, rewriter)

    def _given(self) -> CoordinatesGiven:
        if any(choice.text.gave_up for choice in self._choices.values()):
            self._why = self._why or _TOO_LONG
        return CoordinatesGiven("original" if self._rewriter else "model", self._why)

    def _of_prompt(self) -> Rewriter | None:
        if self._rewriter is None and not self._why and self._form is not None:
            media = self._media()
            at = meant(media)
            scale = None if at is None else scale_of(media[at], self._form)
            if scale is None:
                self._why = _NO_MEDIUM if at is None else _NO_SIZE
            else:
                self._rewriter = Rewriter(self._form, _to_pixels(scale))
        return self._rewriter

    def _delta(self, delta: Delta, choice: _Choice, rewriter: Rewriter) -> Iterator[Delta]:
        is_last = delta.finish_reason is not None
        call = delta.tool_call
        if choice.call is not None and (is_last or delta.text or (call and call.index != choice.call.index)):
            if call is not None and call.index == choice.call.index:
                choice.call = replace(choice.call, arguments=choice.call.arguments + call.arguments)
                call = None
            yield self._call(choice, delta.index, rewriter)
        if delta.channel != "text" and (held := choice.text.end()):
            yield Delta(held, index=delta.index)
        if call is not None:
            before = choice.call.arguments if choice.call else ""
            choice.call = replace(choice.call or call, arguments=before + call.arguments)
            if is_last:
                yield self._call(choice, delta.index, rewriter)
        text = delta.text
        if delta.channel == "text":
            text = choice.text.add(text) + (choice.text.end() if is_last else "")
        yield replace(delta, text=text, tool_call=None)

    def _call(self, choice: _Choice, index: int, rewriter: Rewriter) -> Delta:
        """The call that is over."""
        call, choice.call = choice.call, None
        assert call is not None
        arguments = rewritten(call.arguments, rewriter)
        if arguments is None:
            self._why = self._why or _NO_JSON
            arguments = call.arguments
        return Delta("", channel="tool", index=index, tool_call=replace(call, arguments=arguments))


def _to_pixels(scale: Scale) -> Callable[..., float]:
    def convert(number: float, axis: int, *, is_point: bool) -> float:
        """A whole pixel; of a point one that the medium has."""
        px = round(scale.px_inside(number, axis))
        return min(px, scale.corner_px[axis] + scale.size_px[axis] - 1) if is_point else px

    return convert
