"""Events -> a response and its typed events. https://platform.openai.com/docs/api-reference/responses-streaming"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from engine.api.answering.logprobs import LogprobsWriter
from engine.api.answering.sse import SERVER_SENT, Piece, Wire
from engine.api.answering.usage import own_usage
from engine.errors import EngineError
from engine.types import Delta, Done, Json

PARTS = {"message": "output_text", "reasoning": "reasoning_text"}
"""The one part that an item of these types has."""


@dataclass
class ResponseStream:
    """A response as it grows: items of reasoning, text and calls of functions, one after the other.

    head: the response without output and status. keep: called with the response once it is complete.
    """

    head: Json
    operator: bool = True
    logprobs: LogprobsWriter | None = None
    keep: Callable[[Json], None] | None = None
    items: list[Json] = field(default_factory=list)
    _result: Json = field(default_factory=dict)
    _open: str = ""
    _num_events: int = 0
    wire: ClassVar[Wire] = SERVER_SENT

    def whole(self) -> Json:
        """The response once it has ended."""
        return self._result

    def opening(self) -> Iterator[Piece]:
        started = self._response("in_progress")
        yield self._event("response.created", response=started)
        yield self._event("response.in_progress", response=started)

    def waiting(self) -> Iterator[Piece]:
        yield from ()

    def pieces(self, delta: Delta) -> Iterator[Piece]:
        call = delta.tool_call
        if call is not None:
            if call.id:
                yield from self._start(f"call {call.index}", _call(self._item_id("fc"), call.id, call.name))
            self.items[-1]["arguments"] += call.arguments
            if call.arguments:
                yield self._of_item("response.function_call_arguments.delta", delta=call.arguments)
        elif delta.text and delta.channel == "reasoning":
            yield from self._start("reasoning", {"id": self._item_id("rs"), "type": "reasoning", "summary": []})
            self._part()["text"] += delta.text
            yield self._of_part("response.reasoning_text.delta", delta=delta.text)
        elif delta.text:
            yield from self._start("message", _message(self._item_id("msg")))
            self._part()["text"] += delta.text
            written = self._logprobs(delta)
            yield self._of_part("response.output_text.delta", delta=delta.text, logprobs=written)

    def ending(self, done: Done) -> Iterator[Piece]:
        if not self.items:  # an answer without a word is one, too
            yield from self._start("message", _message(self._item_id("msg")))
        is_cut = done.finish_reason == "length"
        status = "incomplete" if is_cut else "completed"
        yield from self._stop(status)
        self._result = {**self._response(status), "usage": self._usage(done)}
        if is_cut:
            self._result["incomplete_details"] = {"reason": "max_output_tokens"}
        if self.keep:
            self.keep(self._result)
        yield self._event(f"response.{status}", response=self._result)

    def failed(self, error: EngineError) -> Iterator[Piece]:
        code = {400: "invalid_prompt", 429: "rate_limit_exceeded"}.get(error.status, "server_error")
        failed = {**self._response("failed"), "error": {"code": code, "message": error.message}}
        yield self._event("response.failed", response=failed)

    def _start(self, kind: str, item: Json) -> Iterator[Piece]:
        """Begin an item, unless it is the one that is open."""
        if kind == self._open:
            return
        yield from self._stop("completed")
        self._open = kind
        yield self._event(
            "response.output_item.added", output_index=len(self.items), item={**item, "status": "in_progress"}
        )
        self.items.append(item)
        if kind in PARTS:
            item["content"] = [_part(PARTS[kind])]
            yield self._of_part("response.content_part.added", part=dict(self._part()))

    def _stop(self, status: str) -> Iterator[Piece]:
        """End the open item."""
        kind, self._open = self._open, ""
        if not kind:
            return
        item = self.items[-1]
        item["status"] = status
        if kind in PARTS:
            logprobs = {"logprobs": self._part()["logprobs"]} if kind == "message" else {}
            yield self._of_part(f"response.{PARTS[kind]}.done", text=self._part()["text"], **logprobs)
            yield self._of_part("response.content_part.done", part=dict(self._part()))
        else:
            done = {"arguments": item["arguments"], "name": item["name"]}
            yield self._of_item("response.function_call_arguments.done", **done)
        yield self._event("response.output_item.done", output_index=len(self.items) - 1, item=dict(item))

    def _part(self) -> Json:
        part: Json = self.items[-1]["content"][0]
        return part

    def _logprobs(self, delta: Delta) -> list[Json]:
        written: list[Json] = self.logprobs.write(delta)["content"] if self.logprobs else []
        self._part()["logprobs"] += written
        return written

    def _item_id(self, kind: str) -> str:
        return f"{kind}_{self.head['id'].removeprefix('resp_')}_{len(self.items)}"

    def _response(self, status: str) -> Json:
        return {**self.head, "status": status, "output": [dict(item) for item in self.items]}

    def _usage(self, done: Done) -> Json:
        usage = done.usage
        return {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
            "total_tokens": usage.total_tokens,
            **own_usage(done, self.operator),
        }

    def _of_part(self, kind: str, **fields: object) -> Piece:
        return self._of_item(kind, content_index=0, **fields)

    def _of_item(self, kind: str, **fields: object) -> Piece:
        return self._event(kind, item_id=self.items[-1]["id"], output_index=len(self.items) - 1, **fields)

    def _event(self, kind: str, **fields: object) -> Piece:
        self._num_events += 1
        return kind, {"type": kind, "sequence_number": self._num_events - 1, **fields}


def _message(item_id: str) -> Json:
    return {"id": item_id, "type": "message", "role": "assistant", "content": []}


def _call(item_id: str, call_id: str, name: str) -> Json:
    return {"id": item_id, "type": "function_call", "call_id": call_id, "name": name, "arguments": ""}


def _part(kind: str) -> Json:
    part: Json = {"type": kind, "text": ""}
    return {**part, "annotations": [], "logprobs": []} if kind == "output_text" else part
