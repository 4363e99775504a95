"""Fields that nobody here reads: named in the answer's x-ignored-fields header. Nothing is ignored in silence."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from pydantic import BaseModel

from engine.api.bodies.reasoning import ReasoningFields, ignored_in_reasoning
from engine.api.bodies.refused import extra_of, objects_in, refusals_of, unsupported_at
from engine.api.bodies.tools import ToolFields, ignored_in_tools
from engine.types import ModelCard

IGNORED_HEADER = "x-ignored-fields"
MAX_NAMED = 32
MAX_NAME_CHARS = 100
MESSAGE_FIELDS = frozenset(
    ("role", "content", "name", "refusal", "tool_calls", "tool_call_id", "reasoning_content", "reasoning")
)
"""What is read of a message. Other fields that change what the model reads are refused where messages are read."""


def ignored_header(asked: BaseModel, card: ModelCard | None) -> dict[str, str]:
    """The header that names what was sent and has no effect on this model; {} where all of it has. Names are
    percent-encoded, since they may hold anything. card: None of a model that was never loaded; whether it reasons is
    not known then, nor of one that another server answers for."""
    names = list(dict.fromkeys(_ignored(asked, card)))
    if not names:
        return {}
    shown = [quote(name[:MAX_NAME_CHARS], safe="._[]") or '""' for name in names[:MAX_NAMED]]
    more = [f"and {len(names) - MAX_NAMED} more"] if len(names) > MAX_NAMED else []
    return {IGNORED_HEADER: ", ".join(shown + more)}


def _ignored(asked: BaseModel, card: ModelCard | None) -> Iterator[str]:
    yield from _unread(asked, "")
    if isinstance(asked, ToolFields):  # other protocols refuse what they do not read of a message
        for i, message in enumerate(getattr(asked, "messages", None) or ()):
            given = (name for name, value in message.items() if value not in (None, [], {}, ""))
            yield from (f"messages[{i}].{name}" for name in given if name not in MESSAGE_FIELDS)
        yield from ignored_in_tools(asked)
    if isinstance(asked, ReasoningFields) and card is not None and not card.server:
        yield from ignored_in_reasoning(asked, card)


def _unread(model: BaseModel, prefix: str) -> Iterator[str]:
    """The paths of all fields beside those of the schema, also inside the objects that it knows. Those that are refused
    where they ask for something have asked for nothing, once they are here."""
    known = {**unsupported_at(prefix), **refusals_of(model)}
    yield from (f"{prefix}{name}" for name, _ in extra_of(model) if name not in known)
    for path, inner in objects_in(model, prefix):
        yield from _unread(inner, path)
