"""The conversations of one owner: the list, one conversation's turns and branches, drafts. Blocking; any thread.

Every statement names the owner, so that an id of somebody else's conversation leads nowhere.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from engine.access.visibility import VISITOR_OWNER
from engine.errors import ModelNotFound
from engine.types import Json
from workbench.conversations.json_forms import (
    body_of,
    column_text,
    draft_body,
    draft_from_body,
    to_text,
    tokens_from_text,
    tokens_text,
    turn_from_row,
)
from workbench.conversations.store import ConversationStore
from workbench.conversations.types import Attachment, Conversation, Draft, Turn, WrittenToken
from workbench.language import t

MAX_TITLE_CHARS = 80

_PATH = """
WITH RECURSIVE path(id, parent, depth) AS (
    SELECT id, parent, 0 FROM turn WHERE id = :head AND conversation = :conversation
    UNION ALL SELECT turn.id, turn.parent, depth + 1 FROM path JOIN turn ON turn.id = path.parent
    LIMIT :limit
)
SELECT turn.*,
    (SELECT count(*) FROM turn s WHERE s.conversation = turn.conversation AND s.parent IS turn.parent) AS num_siblings,
    (SELECT count(*) FROM turn s WHERE s.conversation = turn.conversation AND s.parent IS turn.parent
        AND s.number <= turn.number) AS place,
    EXISTS (SELECT 1 FROM token_list WHERE token_list.turn = turn.id) AS has_tokens
FROM path JOIN turn ON turn.id = path.id ORDER BY depth DESC
"""
_LEAF = """
WITH RECURSIVE newest(id, depth) AS (
    SELECT :turn, 0
    UNION ALL SELECT (SELECT id FROM turn WHERE conversation = :conversation AND parent = newest.id
        ORDER BY number DESC LIMIT 1), depth + 1 FROM newest WHERE newest.id IS NOT NULL
)
SELECT id FROM newest WHERE id IS NOT NULL ORDER BY depth DESC LIMIT 1
"""
_WHOLE = """
SELECT turn.*, 1 AS place, 1 AS num_siblings, token_list.tokens, token_list.tokens IS NOT NULL AS has_tokens
FROM turn LEFT JOIN token_list ON token_list.turn = turn.id WHERE conversation = ? ORDER BY number
"""
_ADD_TURN = """
INSERT INTO turn (id, conversation, parent, role, state, created_s, text, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""


class OwnedConversations:
    """What one owner keeps. Raises ModelNotFound(code="conversation_not_found") for an id that is not theirs."""

    def __init__(self, store: ConversationStore, owner: str) -> None:
        self.store = store
        self.owner = owner
        self._database = store.database

    # -- the list

    def listed(self, limit: int = 200, offset: int = 0) -> list[Conversation]:
        """Pinned ones first, then the last changed."""
        rows = self._database.read(
            "SELECT * FROM conversation WHERE owner = ? AND deleted_s IS NULL "
            "ORDER BY is_pinned DESC, changed_s DESC LIMIT ? OFFSET ?",
            (self.owner, limit, offset),
        )
        return [conversation_from_row(row) for row in rows]

    def get(self, conversation: str) -> Conversation:
        rows = self._database.read(
            "SELECT * FROM conversation WHERE id = ? AND owner = ? AND deleted_s IS NULL", (conversation, self.owner)
        )
        if not rows:
            raise _not_found()
        return conversation_from_row(rows[0])

    def create(self, title: str = "", settings: Json | None = None, created_s: float = 0.0) -> Conversation:
        """A conversation without turns. created_s: of one that was brought from elsewhere."""
        now_s = time.time()
        begun_s = created_s or now_s
        made = Conversation(secrets.token_hex(8), title[:MAX_TITLE_CHARS], begun_s, now_s, settings=settings or {})
        values = (made.id, self.owner, made.title, begun_s, now_s, to_text(made.settings))
        self._database.write(
            lambda connection: connection.execute(
                "INSERT INTO conversation (id, owner, title, created_s, changed_s, settings) VALUES (?, ?, ?, ?, ?, ?)",
                values,
            )
        )
        self._bound_visitors()
        return made

    def rename(self, conversation: str, title: str) -> None:
        """An empty title gives the conversation back the one made from its first words."""
        words = " ".join(title.split())[:MAX_TITLE_CHARS]
        if not words:
            first = next((turn for turn in self.path(conversation) if turn.role == "user"), None)
            words = title_of(first) if first else ""
        self._change(conversation, "title = ?, is_named = ?", (words, int(bool(title.strip()))))

    def pin(self, conversation: str, is_pinned: bool) -> None:
        self._change(conversation, "is_pinned = ?", (int(is_pinned),))

    def delete(self, conversation: str) -> None:
        """To be had back by `restore` for a while (ConversationStore.clear_out)."""
        self._change(conversation, "deleted_s = ?", (time.time(),))

    def restore(self, conversation: str) -> Conversation:
        self._change(conversation, "deleted_s = NULL", (), is_deleted=True)
        return self.get(conversation)

    # -- one conversation

    def path(self, conversation: str, limit: int = -1, head: str | None = None) -> tuple[Turn, ...]:
        """The turns from the first to the head (or to another turn); with a limit, the last of them."""
        last = head or self.get(conversation).head
        values = {"head": last, "conversation": conversation, "limit": limit}
        return tuple(turn_from_row(_mapping(row)) for row in self._database.read(_PATH, values))

    def whole(self, conversation: str) -> tuple[Turn, ...]:
        """All turns of all branches with their tokens, parents before what follows on them."""
        self.get(conversation)
        rows = map(_mapping, self._database.read(_WHOLE, (conversation,)))
        return tuple(replace(turn_from_row(row), tokens=tokens_from_text(row["tokens"] or "[]")) for row in rows)

    def tokens(self, conversation: str, turn: str) -> tuple[WrittenToken, ...]:
        """An answer's tokens; () where they were not asked for. Raises ModelNotFound."""
        self.turn(conversation, turn)
        rows = self._database.read("SELECT tokens FROM token_list WHERE turn = ?", (turn,))
        return tokens_from_text(rows[0]["tokens"]) if rows else ()

    def turn(self, conversation: str, turn: str) -> Turn:
        """One turn, wherever in the tree it is. Raises ModelNotFound."""
        self.get(conversation)
        found = self.path(conversation, limit=1, head=turn)
        if not found:
            raise ModelNotFound(t("That message is not in this conversation."), code="turn_not_found")
        return found[0]

    def conversation_of(self, turn: str) -> str:
        """The conversation that holds a turn, "" where none of this owner's does."""
        rows = self._database.read(
            "SELECT conversation.id FROM turn JOIN conversation ON conversation.id = turn.conversation "
            "WHERE turn.id = ? AND owner = ?",
            (turn, self.owner),
        )
        return str(rows[0]["id"]) if rows else ""

    def siblings(self, conversation: str, turn: str) -> list[str]:
        """The ids of the turns with the same parent, itself among them, the oldest first."""
        parent = self.turn(conversation, turn).parent
        rows = self._database.read(
            "SELECT id FROM turn WHERE conversation = ? AND parent IS ? ORDER BY number", (conversation, parent)
        )
        return [row["id"] for row in rows]

    def add(self, conversation: str, turns: Sequence[Turn], settings: Json | None = None) -> None:
        """Add turns, each the child that it says it is; the last becomes the head. With a question, the draft is gone.

        A turn whose id is there already is left as it is: the page asks again where a reply was lost.
        """

        def change(connection: sqlite3.Connection) -> None:
            self._must_exist(connection, conversation)
            for turn in turns:
                self._add_turn(connection, conversation, turn)
            first = next((turn for turn in turns if turn.role == "user"), None)
            if first is not None:
                connection.execute(
                    "UPDATE conversation SET title = ? WHERE id = ? AND title = ''", (title_of(first), conversation)
                )
            if settings is not None:
                connection.execute(
                    "UPDATE conversation SET settings = ? WHERE id = ?", (to_text(settings), conversation)
                )
            self._touch(connection, conversation, turns[-1].id)
            if first is not None:
                self._write_draft(connection, conversation, Draft())

        self._database.write(change)

    def has_followers(self, conversation: str, turn: str) -> bool:
        """Whether some branch goes on from a turn."""
        sql = "SELECT 1 FROM turn WHERE conversation = ? AND parent = ? LIMIT 1"
        return bool(self._database.read(sql, (conversation, turn)))

    def write_on(self, conversation: str, answer: Turn) -> None:
        """An answer that had ended is being written again; it becomes the head."""

        def change(connection: sqlite3.Connection) -> None:
            self._must_exist(connection, conversation)
            values = (answer.state, column_text(answer), body_of(answer), answer.id, conversation)
            where = "id = ? AND conversation = ?"
            connection.execute(f"UPDATE turn SET state = ?, text = ?, body = ? WHERE {where}", values)
            connection.execute("DELETE FROM token_list WHERE turn = ?", (answer.id,))  # they come again with its end
            self._touch(connection, conversation, answer.id)

        self._database.write(change)

    def write(self, turn: Turn) -> None:
        """Bring an answer up to what has been written of it. Words in search come with its end.

        Its turn was added by `add`, which lets nobody take the id of somebody else's.
        """

        def change(connection: sqlite3.Connection) -> None:
            if turn.state == "writing":
                connection.execute("UPDATE turn SET body = ? WHERE id = ?", (body_of(turn), turn.id))
                return
            values = (turn.text, turn.state, body_of(turn), turn.id)
            connection.execute("UPDATE turn SET text = ?, state = ?, body = ? WHERE id = ?", values)
            _keep_tokens(connection, turn)
            connection.execute(
                "UPDATE conversation SET revision = revision + 1, changed_s = ? "
                "WHERE id = (SELECT conversation FROM turn WHERE id = ?)",
                (time.time(), turn.id),
            )

        self._database.write(change)

    def select(self, conversation: str, turn: str) -> None:
        """Show the branch that this turn is on, to its newest end."""
        self.turn(conversation, turn)
        rows = self._database.read(_LEAF, {"turn": turn, "conversation": conversation})
        self.set_head(conversation, rows[0]["id"])

    def set_head(self, conversation: str, turn: str | None) -> None:
        """The last turn that is shown; what follows it stays as another branch."""
        if turn is not None:
            self.turn(conversation, turn)
        self._change(conversation, "head = ?", (turn,))

    def take_back(self, conversation: str, turn: str) -> None:
        """Delete a turn that nothing follows; its parent becomes the head."""
        parent = self.turn(conversation, turn).parent

        def change(connection: sqlite3.Connection) -> None:
            connection.execute(
                "DELETE FROM turn WHERE id = ? AND NOT EXISTS (SELECT 1 FROM turn AS child WHERE child.parent = ?)",
                (turn, turn),
            )

        self.set_head(conversation, parent)
        self._database.write(change)

    def replace_attachments(self, conversation: str, turn: str, attachments: tuple[Attachment, ...]) -> None:
        """A message's media, or how they are sent, were changed."""
        changed = replace(self.turn(conversation, turn), attachments=attachments)

        def change(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE turn SET body = ? WHERE id = ?", (body_of(changed), turn))
            self.store.keep(connection, turn, attachments)
            connection.execute("UPDATE conversation SET revision = revision + 1 WHERE id = ?", (conversation,))

        self._database.write(change)

    # -- where the owner was

    def draft(self, conversation: str) -> Draft:
        """What stands in the composer of a conversation; of a new one: ""."""
        rows = self._database.read(
            "SELECT body FROM draft WHERE owner = ? AND conversation = ?", (self.owner, conversation)
        )
        return draft_from_body(rows[0]["body"]) if rows else Draft()

    def keep_draft(self, conversation: str, draft: Draft, settings: Json | None = None) -> None:
        """Keep the composer's content, and the side bar's with the conversation."""
        if conversation:
            self.get(conversation)

        def change(connection: sqlite3.Connection) -> None:
            self._write_draft(connection, conversation, draft)
            if conversation and settings is not None:
                connection.execute(
                    "UPDATE conversation SET settings = ? WHERE id = ?", (to_text(settings), conversation)
                )

        self._database.write(change)
        self._bound_visitors()

    def last_open(self) -> str:
        """The conversation that was shown last; "" for a new one."""
        rows = self._database.read("SELECT conversation FROM last_open WHERE owner = ?", (self.owner,))
        return str(rows[0]["conversation"]) if rows else ""

    def set_last_open(self, conversation: str) -> None:
        self._database.write(
            lambda connection: connection.execute(
                "INSERT OR REPLACE INTO last_open VALUES (?, ?)", (self.owner, conversation)
            )
        )
        self._bound_visitors()

    def _bound_visitors(self) -> None:
        """What visitors wrote is in memory, and anybody may call themselves many visitors."""
        if self.owner.startswith(VISITOR_OWNER):
            self.store.drop_visitors(time.time())

    def _must_exist(self, connection: sqlite3.Connection, conversation: str, *, is_deleted: bool = False) -> None:
        where = f"id = ? AND owner = ? AND deleted_s IS {'NOT NULL' if is_deleted else 'NULL'}"
        if not connection.execute(f"SELECT 1 FROM conversation WHERE {where}", (conversation, self.owner)).fetchone():
            raise _not_found()

    def _change(self, conversation: str, what: str, values: tuple[Any, ...], *, is_deleted: bool = False) -> None:
        def change(connection: sqlite3.Connection) -> None:
            self._must_exist(connection, conversation, is_deleted=is_deleted)
            connection.execute(
                f"UPDATE conversation SET {what}, revision = revision + 1 WHERE id = ?", (*values, conversation)
            )

        self._database.write(change)

    def _add_turn(self, connection: sqlite3.Connection, conversation: str, turn: Turn) -> None:
        there = connection.execute("SELECT conversation FROM turn WHERE id = ?", (turn.id,)).fetchone()
        if there is not None:
            if there["conversation"] != conversation:
                raise _not_found()
            return
        created_s = turn.created_s or time.time()
        place = (turn.id, conversation, turn.parent, turn.role, turn.state, created_s)
        connection.execute(_ADD_TURN, (*place, column_text(turn), body_of(turn)))
        self.store.keep(connection, turn.id, turn.attachments)
        if turn.state != "writing":
            _keep_tokens(connection, turn)

    def _touch(self, connection: sqlite3.Connection, conversation: str, head: str) -> None:
        connection.execute(
            "UPDATE conversation SET head = ?, revision = revision + 1, changed_s = ? WHERE id = ?",
            (head, time.time(), conversation),
        )

    def _write_draft(self, connection: sqlite3.Connection, conversation: str, draft: Draft) -> None:
        self.store.keep(connection, f"draft/{self.owner}/{conversation}", draft.attachments)
        if draft == Draft():
            connection.execute("DELETE FROM draft WHERE owner = ? AND conversation = ?", (self.owner, conversation))
        else:
            values = (self.owner, conversation, draft_body(draft))
            connection.execute("INSERT OR REPLACE INTO draft VALUES (?, ?, ?)", values)


def _keep_tokens(connection: sqlite3.Connection, turn: Turn) -> None:
    if turn.tokens:
        values = (turn.id, tokens_text(turn.tokens))
        connection.execute("INSERT OR REPLACE INTO token_list SELECT id, ? FROM turn WHERE id = ?", values[::-1])


def title_of(turn: Turn) -> str:
    """A conversation's first title: the first line of its first question, else the names of its media."""
    line = next((" ".join(line.split()) for line in turn.text.splitlines() if line.strip()), "")
    words = line or ", ".join(attachment.name for attachment in turn.attachments)
    return words if len(words) <= MAX_TITLE_CHARS else words[: MAX_TITLE_CHARS - 1] + "…"


def conversation_from_row(row: sqlite3.Row) -> Conversation:
    return Conversation(
        id=row["id"],
        title=row["title"],
        created_s=row["created_s"],
        changed_s=row["changed_s"],
        is_pinned=bool(row["is_pinned"]),
        revision=row["revision"],
        head=row["head"],
        settings=json.loads(row["settings"]),
    )


def _mapping(row: sqlite3.Row) -> dict[str, Any]:
    return {name: row[name] for name in row.keys()}  # noqa: SIM118 (a Row's own iteration gives the values)


def _not_found() -> ModelNotFound:
    return ModelNotFound(t("That conversation is not here any more."), code="conversation_not_found")
