"""The tool calls of one answer, read from its text as it is written. Pure Python.

Most models write a call's arguments as JSON behind a short head; these are handed on piece by piece. Others write them
in a way of their own, which mlx-lm's parser reads once the call is whole.

    <tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>
               └────────── head ─────────┘  └── as they come ──┘
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import string
from collections.abc import Iterator, Sequence
from typing import Any

from engine.models.chat_format import ToolFormat
from engine.types import Json, ToolCallDelta

log = logging.getLogger(__name__)

_HEADS = (
    re.compile(r'[\s\[,}]*\{\s*"name"\s*:\s*(?P<name>"(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)'),
    re.compile(r"\s*(?:\[TOOL_CALLS\])?(?P<name>[\w-]+)\s*\[ARGS\]\s*(?=\{)"),
)
"""Hermes, Qwen, Llama; Mistral. What comes up to the arguments, which begin with "{"."""

_ID_CHARS = string.ascii_letters + string.digits
_ID_LENGTH = 9
"""Mistral's templates want ids of exactly so many letters and digits; others take any."""


class ToolCallReader:
    """The calls of one answer. tools: as mlx-lm's parsers read them; parallel: more than one call is kept.

    `add` takes text between the marks of a call as it comes, `end` says that the call is over. num_calls: so far.
    """

    def __init__(self, format: ToolFormat, tools: Sequence[Json], *, parallel: bool = True) -> None:
        self.format = format
        self._tools = list(tools)
        self._parallel = parallel
        self._text = ""
        self._read = 0
        self._arguments: _JsonEnd | None = None
        self._is_streamed = False
        self.num_calls = 0

    @property
    def is_full(self) -> bool:
        """One call was made and no more are wanted."""
        return self.num_calls > 0 and not self._parallel and self._arguments is None

    def add(self, text: str) -> list[ToolCallDelta]:
        """What this text adds to the calls."""
        self._text += text
        out: list[ToolCallDelta] = []
        while True:
            if self._arguments is None and (delta := self._head()):
                out.append(delta)
            if self._arguments is None:
                return out
            end = self._arguments.find(self._text, self._read)
            piece = self._text[self._read : end]
            self._read += len(piece)
            if piece:
                out.append(ToolCallDelta(self.num_calls - 1, arguments=piece))
            if not self._arguments.is_found:
                return out
            self._arguments = None

    def end(self) -> list[ToolCallDelta] | None:
        """The call is over, or the answer: what is missing of it. None where its text was no call at all: see rest."""
        if self._is_streamed:
            self._begin_anew()
            return []
        calls = list(self._parsed())
        if not calls:
            return None
        self._begin_anew()
        out = []
        for name, arguments, own_id in calls:
            if self.num_calls and not self._parallel:
                break
            out.append(ToolCallDelta(self.num_calls, own_id or _new_id(), name, arguments))
            self.num_calls += 1
        return out

    def take_rest(self) -> str:
        """The text since the last call, which is none; forgotten here."""
        text = self._text
        self._begin_anew()
        return text

    def _begin_anew(self) -> None:
        self._text, self._read, self._arguments, self._is_streamed = "", 0, None, False

    def _head(self) -> ToolCallDelta | None:
        """The next call's first piece, once its head is there and its arguments begin."""
        if self.num_calls and not self._parallel:
            return None
        found = next((match for head in _HEADS if (match := head.match(self._text, self._read))), None)
        if found is None:
            return None
        name = found["name"]
        self._read, self._arguments, self._is_streamed = found.end(), _JsonEnd(), True
        self.num_calls += 1
        return ToolCallDelta(self.num_calls - 1, _new_id(), json.loads(name) if name.startswith('"') else name)

    def _parsed(self) -> Iterator[tuple[str, str, str]]:
        """(name, arguments as JSON, id or "") of each call in the text; none where it cannot be read."""
        try:
            parsed = self.format.parse(self._text, self._tools)
        except Exception as e:  # parsers of many hands, over whatever a model wrote
            log.debug("what should have been a tool call cannot be read: %s", e)
            return
        for call in parsed if isinstance(parsed, list) else [parsed]:
            name = call.get("name") if isinstance(call, dict) else None
            if isinstance(name, str) and name:
                arguments = call.get("arguments", call.get("parameters"))
                yield name, _as_json(arguments), str(call.get("id") or "")


class _JsonEnd:
    """Finds where a JSON object ends that is still being written."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._is_escaped = False
        self.is_found = False

    def find(self, text: str, start: int) -> int:
        """Read on from `start`. Returns the place behind the object, or the end of the text."""
        for at in range(start, len(text)):
            char = text[at]
            if self._is_escaped:
                self._is_escaped = False
            elif self._in_string:
                self._is_escaped, self._in_string = char == "\\", char != '"'
            elif char == '"':
                self._in_string = True
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self.is_found = True
                    return at + 1
        return len(text)


def _as_json(arguments: Any) -> str:
    """Arguments as one JSON text; some models write that text themselves."""
    if isinstance(arguments, str):
        try:
            if isinstance(json.loads(arguments), dict):
                return arguments
        except ValueError:
            pass
    return json.dumps({} if arguments is None else arguments, ensure_ascii=False)


def _new_id() -> str:
    return "".join(secrets.choice(_ID_CHARS) for _ in range(_ID_LENGTH))
