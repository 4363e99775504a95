"""Media that cannot be read: marked in their message with the reason, and no longer sent, so that the chat goes on.
Blocking; any thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.errors import BadRequest, EngineError, ModelNotFound
from workbench.conversations.owned import OwnedConversations
from workbench.conversations.types import Turn


def mark_broken(owned: OwnedConversations, conversation: str, answer: Turn, error: EngineError) -> None:
    """Mark the medium that this error of a failed answer is about. Nothing if it is about none."""
    try:
        marked = with_broken(owned.path(conversation, head=answer.parent), error)
        if marked is not None:
            owned.replace_attachments(conversation, marked.id, marked.attachments)
    except ModelNotFound:
        return  # the conversation was deleted meanwhile


def with_broken(path: Sequence[Turn], error: EngineError) -> Turn | None:
    """The turn of the medium that this error is about, with it marked. The last medium of its name: those before it
    have been read. Returns None where the error is about no medium."""
    if not isinstance(error, BadRequest):
        return None
    for turn in reversed(path):
        for place in range(len(turn.attachments) - 1, -1, -1):
            medium = turn.attachments[place]
            if medium.name == error.param and not medium.broken:
                marked = replace(medium, broken=error.message.removeprefix(f"{medium.name}: "))
                return replace(turn, attachments=(*turn.attachments[:place], marked, *turn.attachments[place + 1 :]))
    return None
