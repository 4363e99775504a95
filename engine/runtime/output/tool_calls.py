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
from collections.abc import Sequence
from typing import Any

from engine.models.chat_format import ToolFormat
from engine.types import Json, ToolCallDelta

log = logging.getLogger(__name__)

_HEADS = (
    re.compile(r'[\s\[,}]*\{\s*"name"\s*:\s*(?P<name>"(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)'),
    re.compile(r"\s*(?:\[TOOL_CALLS\])?(?P<name>[\w-]+)\s*\[ARGS\]\s*(?=\{)"),
)
"""Hermes, Qwen, Llama; Mistral. What comes up to the arguments, which begin with "{"."""

_MAX_HEAD_CHARS = 1024
"""A head is looked for anew with each token, so it must not be looked for in ever more text. A call that begins with
more is read once it is whole."""

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
        self.num_calls = 0
        self._text = ""
        """What came since the last piece that was handed on."""
        self._later: list[str] = []
        """What came behind it, where no head is looked for any more."""
        self._arguments: _JsonEnd | None = None
        self._is_streamed = self._is_without_head = self._is_unreadable = False

    @property
    def is_full(self) -> bool:
        """One call was made and no more are wanted."""
        return self.num_calls > 0 and not self._parallel and self._arguments is None

    def add(self, text: str) -> list[ToolCallDelta]:
        """What this text adds to the calls."""
        if self._is_without_head:
            self._later.append(text)
            return []
        self._text, at = self._text + text, 0
        out: list[ToolCallDelta] = []
        while True:
            if self._arguments is None and (head := self._head(at)):
                delta, at = head
                out.append(delta)
            if self._arguments is None:
                break
            end = self._arguments.find(self._text, at)
            if end > at:
                out.append(ToolCallDelta(self.num_calls - 1, arguments=self._text[at:end]))
            at = end
            if not self._arguments.is_found:
                break
            self._arguments = None
        self._text = self._text[at:]
        self._is_without_head |= self._arguments is None and len(self._text) > _MAX_HEAD_CHARS
        return out

    def end(self) -> list[ToolCallDelta] | None:
        """The call is over, or the answer: what is missing of it. None where its text was no call at all: see rest."""
        if self._is_streamed:
            if self._is_unreadable:
                return None
            self._begin_anew()
            return []
        calls = self._parsed()
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
        text = self._rest()
        self._begin_anew()
        return text

    def _begin_anew(self) -> None:
        self._text, self._later, self._arguments = "", [], None
        self._is_streamed = self._is_without_head = self._is_unreadable = False

    def _rest(self) -> str:
        return self._text + "".join(self._later)

    def _head(self, at: int) -> tuple[ToolCallDelta, int] | None:
        """The next call's first piece, once its head is there and its arguments begin; and where they do."""
        if self._is_unreadable or (self.num_calls and not self._parallel):
            return None
        end = at + _MAX_HEAD_CHARS
        found = next((match for head in _HEADS if (match := head.match(self._text, at, end))), None)
        if found is None:
            return None
        name = _name(found["name"])
        if not name:
            self._is_unreadable = True
            return None
        self._arguments, self._is_streamed = _JsonEnd(), True
        self.num_calls += 1
        return ToolCallDelta(self.num_calls - 1, _new_id(), name), found.end()

    def _parsed(self) -> list[tuple[str, str, str]]:
        """(name, arguments as JSON, id or "") of each call in the text; none where it cannot be read."""
        try:
            parsed = self.format.parse(self._rest(), self._tools)
            calls = [call for call in (parsed if isinstance(parsed, list) else [parsed]) if isinstance(call, dict)]
            return [_call(call) for call in calls if isinstance(call.get("name"), str) and call["name"]]
        except Exception as e:  # parsers of many hands, over whatever a model wrote
            log.debug("what should have been a tool call cannot be read: %s", e)
            return []


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


def _name(written: str) -> str:
    """The name in a head, "" where it is none: a text that JSON does not know, or that cannot be sent."""
    try:
        name = str(json.loads(written)) if written.startswith('"') else written
        name.encode()
    except ValueError:
        return ""
    return name


def _call(call: Json) -> tuple[str, str, str]:
    """See ToolCallReader._parsed. Raises ValueError, TypeError or RecursionError for what cannot be sent as JSON."""
    name, own_id = call["name"], str(call.get("id") or "")
    (name + own_id).encode()
    return name, _as_json(call.get("arguments", call.get("parameters"))), own_id


def _as_json(arguments: Any) -> str:
    """Arguments as one JSON text; some models write that text themselves."""
    is_written = isinstance(arguments, str) and _is_object(arguments)
    text = arguments if is_written else json.dumps({} if arguments is None else arguments, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a pair: JSON has a way to write it, UTF-8 has none
        return json.dumps(json.loads(text))
    return str(text)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _new_id() -> str:
    return "".join(secrets.choice(_ID_CHARS) for _ in range(_ID_LENGTH))
