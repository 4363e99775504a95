"""What a kept conversation is made of. Frozen values in pure Python.

    Conversation ── Turn ── Attachment

Turns form a tree: a question that was edited and an answer that was asked for again are siblings, with the same parent.
The conversation's head is the last turn that is shown; the turns from the first to the head are its path.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from engine.types import Done, Json, Kind

TurnRole = Literal["user", "assistant"]
TurnState = Literal["writing", "done", "stopped", "failed", "cut_off"]
"""Of an answer. "stopped": by its reader, or since nobody looked. "cut_off": the server ended while it was written."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A medium of a message. sha256: of its bytes, which name its file. name: as it was uploaded.

    part: how it is sent where it is not sent as it comes, as JSON (workbench.conversations.json_forms). broken: why it
    cannot be read; it is shown with this reason, and no longer sent.
    """

    kind: Kind
    name: str
    sha256: str
    num_bytes: int
    part: Json | None = None
    broken: str = ""


@dataclass(frozen=True, slots=True)
class WrittenToken:
    """A token of an answer as text. logprob: its natural log-probability; None for text whose tokens are not known.

    top: the likeliest tokens at its place, each with its log-probability, the likeliest first.
    """

    text: str
    logprob: float | None = None
    top: tuple[tuple[str, float], ...] = ()

    def json(self) -> list[Any]:
        return [self.text, self.logprob, [list(other) for other in self.top]]


@dataclass(frozen=True, slots=True)
class EndedPart:
    """One request of an answer. done: its end; None where it was stopped, failed or cut off, and then only the number
    of its tokens is known."""

    num_tokens: int
    done: Done | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """One message. parent: the turn it answers or follows, None for the first.

    done: usage, times and receipts of an answer that ended by itself. num_tokens: of one that was stopped. error: why
    it failed. settings: the chat's settings that it was asked with. place: 1 for the first of num_siblings.
    reasoning_s: how long the reasoning took; None while it goes on, and where that is not known.
    earlier: of an answer that was continued, the requests before the last; done, num_tokens and error are the last's.
    is_imported: what it says of its requests was read of a file, and nobody here has seen it happen.
    tokens: of the text, where their probabilities were asked for. They are many: a turn that is read of the file says
    only that it has them (has_tokens), and OwnedConversations.tokens gives them.
    """

    id: str
    role: TurnRole
    parent: str | None = None
    text: str = ""
    reasoning: str = ""
    attachments: tuple[Attachment, ...] = ()
    state: TurnState = "done"
    done: Done | None = None
    num_tokens: int = 0
    error: str = ""
    settings: Json = field(default_factory=dict)
    created_s: float = 0.0
    place: int = 1
    num_siblings: int = 1
    reasoning_s: float | None = None
    earlier: tuple[EndedPart, ...] = ()
    tokens: tuple[WrittenToken, ...] = ()
    has_tokens: bool = False
    is_imported: bool = False

    @property
    def ended_parts(self) -> tuple[EndedPart, ...]:
        """All requests that this answer is made of, in their order."""
        num_tokens = self.done.usage.completion_tokens if self.done else self.num_tokens
        return (*self.earlier, EndedPart(num_tokens, self.done))

    @property
    def can_continue(self) -> bool:
        """Whether it is an answer with a beginning and no end of its own."""
        if self.role != "assistant" or self.state == "writing" or not self.text.strip():
            return False
        return self.done is None or self.done.finish_reason in ("length", "cancelled")


@dataclass(frozen=True, slots=True)
class Conversation:
    """One line of the list. Times in seconds since the epoch. revision grows with every change of what is shown.

    head: the last turn that is shown; None before the first. settings: the fields of the side bar, by name.
    """

    id: str
    title: str
    created_s: float
    changed_s: float
    is_pinned: bool = False
    revision: int = 0
    head: str | None = None
    settings: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Draft:
    """What stands in the composer and has not been sent."""

    text: str = ""
    attachments: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A conversation that holds the words. excerpt: a line around the first place; "" where the title has them."""

    conversation: Conversation
    excerpt: str = ""
