"""Kept turns <-> entries of the chat: what is shown and sent of a conversation. Reads no file's content; no Gradio.

    Turn ──> entries ──> turns of the page (display.py)     what is shown
                └──────> Request.messages                   what is sent

Each displayed part is one entry, so an outline with a line for each entry tells which kept turn a part is of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from engine.types import Json, Part, Request
from workbench.chat.convert import ChatEntry, ChatSettings, Entries, to_request
from workbench.chat.display import displayed_live
from workbench.chat.markdown import Rendering
from workbench.chat.parts import cost_note, descriptions_of, receipts_of
from workbench.conversations.json_forms import part_from_json, part_json
from workbench.conversations.tokens import without_space_at_end
from workbench.conversations.types import Attachment, Turn, WrittenToken
from workbench.language import catalogued, t

REQUEST_PREFIX = "chat-"
CUT_OFF = catalogued("cut off: the server ended while it was written")
PathOf = Callable[[Attachment], str]
"""A path of a medium's content that the page may show and the engine may read."""


def request_id(turn: str, part: int = 1) -> str:
    """The id under which the engine lists the request of an answer. part: which of its requests, from 1."""
    return REQUEST_PREFIX + turn + (f".{part}" if part > 1 else "")


def turn_of_request(key: str) -> str:
    return key.removeprefix(REQUEST_PREFIX).partition(".")[0]


def entries(turn: Turn, path_of: PathOf) -> Entries:
    """What is shown of a turn, in order. An answer that is being written has no last line yet."""
    if turn.role == "user":
        media = tuple(_medium(attachment, path_of(attachment)) for attachment in turn.attachments)
        return media + ((ChatEntry("user", "text", turn.text),) if turn.text else ())
    written = (
        *((_reasoning(turn),) if turn.reasoning else ()),
        *((ChatEntry("assistant", "text", turn.text),) if turn.text else ()),
    )
    return written if turn.state == "writing" else (*written, _last_line(turn))


def _reasoning(turn: Turn) -> ChatEntry:
    return ChatEntry("assistant", "reasoning", turn.reasoning, duration_s=turn.reasoning_s)


def _medium(attachment: Attachment, path: str) -> ChatEntry:
    part = part_from_json(attachment.part, attachment.kind, path, attachment.name) if attachment.part else None
    return ChatEntry("user", attachment.kind, path=path, part=part, broken=attachment.broken)


def _last_line(turn: Turn) -> ChatEntry:
    num_parts = len(turn.ended_parts) if turn.can_continue else 0
    if turn.state == "failed":
        return ChatEntry("assistant", "error", turn.error, num_parts=num_parts, has_tokens=turn.has_tokens)
    if turn.state == "cut_off":
        return ChatEntry("assistant", "note", t(CUT_OFF), num_parts=num_parts, has_tokens=turn.has_tokens)
    asked = Request(id=request_id(turn.id, len(turn.ended_parts))) if turn.done else None
    return ChatEntry(
        "assistant",
        "note",
        cost_note(turn),
        request=asked,
        media=receipts_of(turn),
        descriptions=descriptions_of(turn),
        num_parts=num_parts,
        has_tokens=turn.has_tokens,
        is_imported=turn.is_imported,
    )


def all_entries(turns: Sequence[Turn], path_of: PathOf) -> Entries:
    return tuple(entry for turn in turns for entry in entries(turn, path_of))


def outline(turns: Sequence[Turn], path_of: PathOf) -> list[Json]:
    """For each entry the turn it is of; at the turn's last entry, which of how many siblings it is."""
    lines: list[Json] = []
    for turn in turns:
        num_entries = len(entries(turn, path_of))
        lines += [{"turn": turn.id} for _ in range(num_entries)]
        if num_entries and turn.num_siblings > 1:
            lines[-1] |= {"place": turn.place, "of": turn.num_siblings}
    return lines


def question(turn: str, parent: str | None, text: str, attachments: Sequence[Attachment]) -> Turn:
    return Turn(turn, "user", parent, text if text.strip() else "", attachments=tuple(attachments))


def to_answer(question: Turn, turn: str, settings: Json) -> Turn:
    """An answer of which nothing is written yet."""
    return Turn(turn, "assistant", question.id, state="writing", settings=settings)


def written_on(answer: Turn, turn: str, settings: Json, tokens: tuple[WrittenToken, ...] = ()) -> Turn:
    """An answer that had ended, about to be continued. turn: its id from now on. tokens: of its text.

    White space at its end is written anew: templates differ in whether they show it to the model.
    """
    return replace(
        answer,
        id=turn,
        text=answer.text.rstrip(),
        state="writing",
        done=None,
        num_tokens=0,
        error="",
        settings=settings,
        created_s=0.0,
        earlier=answer.ended_parts,
        tokens=without_space_at_end(tokens),
        has_tokens=False,
    )


def request_to_go_on(answer: Turn, path: Sequence[Turn], path_of: PathOf, settings: ChatSettings) -> Request:
    """What asks for the rest of an answer that has a beginning. path: the turns before it."""
    request = to_request((*all_entries(path, path_of), ChatEntry("assistant", "text", answer.text)), settings)
    *before, last = request.messages
    messages = (*before, replace(last, reasoning=answer.reasoning))
    key = request_id(answer.id, len(answer.ended_parts))
    return replace(request, id=key, messages=messages, continue_final_message=True)


def request_for(answer: Turn, path: Sequence[Turn], path_of: PathOf, settings: ChatSettings) -> Request:
    """What asks for an answer. path: the turns before it."""
    request = to_request(all_entries(path, path_of), settings)
    return replace(request, id=request_id(answer.id))


def fitted(turns: Sequence[Turn], before: Request, after: Request) -> list[Turn]:
    """The turns whose media `after` sends in another way than `before`; both were made from these turns."""
    pairs = zip(before.media_parts, after.media_parts, strict=False)  # those of the draft come after these
    changed = []
    for turn in turns:
        attachments = tuple(one if one.broken else _sent_as(one, *next(pairs)) for one in turn.attachments)
        if attachments != turn.attachments:
            changed.append(replace(turn, attachments=attachments))
    return changed


def _sent_as(attachment: Attachment, before: Part, after: Part) -> Attachment:
    return attachment if before == after else replace(attachment, part=part_json(after))


class LiveAnswer:
    """Draws one answer while it is written: call it with the turn as it is, and with what it waits for. asked: the
    message, where the end is drawn too."""

    def __init__(self, asked: Entries = ()) -> None:
        self._asked = asked
        self._text = Rendering()

    def __call__(self, turn: Turn, waits_for: str) -> list[Json]:
        written = entries(turn, lambda attachment: "") or (ChatEntry("assistant", "busy", waits_for),)
        return displayed_live(written, self._text.update, self._asked)
