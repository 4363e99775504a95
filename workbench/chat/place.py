"""Where a page is: what its own script tells the server with every event, and what the server tells it back.

The value of one invisible component (conversations/live.js). The page holds it, so that a server that was started anew
knows at once what the page shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.errors import ModelNotFound
from engine.types import Json
from workbench.components import serial
from workbench.conversations.types import Conversation
from workbench.language import t

SHOWN_TURNS = 40
"""Turns that are drawn when a conversation is opened; earlier ones on request."""

MAX_SHOWN_TURNS = 4000


@dataclass(frozen=True, slots=True)
class PagePlace:
    """page, visitor: what the page and its browser tab call themselves. conversation: "" for a new one.

    turns: for each displayed part, the turn it is of. num_turns: how many turns are shown at most.
    """

    page: str = ""
    visitor: str = ""
    conversation: str = ""
    turns: tuple[str, ...] = ()
    num_turns: int = SHOWN_TURNS

    @classmethod
    def of(cls, value: Any) -> PagePlace:
        """From what the page sent, which may be anything."""
        if not isinstance(value, dict):
            return cls()
        outline = value.get("outline")
        lines = outline if isinstance(outline, list) else []
        num_turns = value.get("num_turns")
        return cls(
            page=_text(value.get("page")),
            visitor=_text(value.get("visitor")),
            conversation=_text(value.get("conversation")),
            turns=tuple(_text(line.get("turn")) if isinstance(line, dict) else "" for line in lines),
            num_turns=min(num_turns, MAX_SHOWN_TURNS) if isinstance(num_turns, int) and num_turns > 0 else SHOWN_TURNS,
        )

    def turn(self, index: int) -> str:
        """The turn of the message that was clicked. Raises ModelNotFound."""
        if not self.turns:
            raise ModelNotFound(t("That message is not shown any more."), code="turn_not_found")
        return self.turns[max(0, min(index, len(self.turns) - 1))]

    def number_in_turn(self, index: int) -> int:
        """Which part of its turn was clicked, counted from 0."""
        at = max(0, min(index, len(self.turns) - 1))
        return at - self.turns.index(self.turns[at])

    def at(self, conversation: str) -> PagePlace:
        """The same page, showing another conversation from its end."""
        return replace(self, conversation=conversation, turns=(), num_turns=SHOWN_TURNS)


def told(place: PagePlace, shown: Conversation | None, outline: Sequence[Json], **more: Json | bool | str) -> Json:
    """What the page is told: where it is now, and what it needs for arrows and for the list."""
    return {
        "page": place.page,
        "visitor": place.visitor,
        "conversation": shown.id if shown else "",
        "title": shown.title if shown else "",
        "revision": shown.revision if shown else 0,
        "outline": list(outline),
        "num_turns": place.num_turns,
        "serial": serial(),
        **more,
    }


def _text(value: Any) -> str:
    return value[:64] if isinstance(value, str) else ""
