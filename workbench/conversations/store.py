"""All kept conversations of all owners: the database and the media beside it. Blocking; any thread.

What one owner may do is in workbench.conversations.owned. Whose is whose is decided in engine.access.visibility.
"""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path

from engine.access.visibility import VISITOR_OWNER
from workbench.conversations.database import Database
from workbench.conversations.media import MediaFiles
from workbench.conversations.types import Attachment

UNDO_S = 60.0
"""How long a deleted conversation can be had back."""

UNUSED_S = 3600.0
"""A medium that nothing refers to may be about to be sent; it is deleted when it is this old."""

VISITOR_S = 24 * 3600.0
MAX_VISITOR_CONVERSATIONS = 2000
MAX_VISITOR_DRAFTS = 500
"""Of all visitors together: theirs are in memory."""

FILE_NAME = "conversations.db"
_VISITORS = f"{VISITOR_OWNER}%"


class ConversationStore:
    """folder: where they are kept; None: in memory, and media below `served`. served: a folder whose files the page may
    show and the engine may read.
    """

    def __init__(self, folder: Path | None, served: Path) -> None:
        self.database = Database(folder / FILE_NAME if folder else None)
        media_folder = folder / "media" if folder and self.database.on_disk else served / "kept-media"
        if self.database.was_damaged:
            _set_aside(media_folder)
        self.media = MediaFiles((media_folder, served / "kept-media"), served / "kept")
        self.database.write(_cut_off)
        self.clear_out(time.time() + UNDO_S)
        known = {row["sha256"] for row in self.database.read("SELECT sha256 FROM medium")}
        self.media.sweep(known, time.time() - UNUSED_S)

    @property
    def problem(self) -> str:
        """What a person should know of the file and of the media; "" if nothing."""
        return self.database.problem or self.media.problem

    def keep(self, connection: sqlite3.Connection, holder: str, attachments: tuple[Attachment, ...]) -> None:
        """Within a change: `holder` (a turn or a draft) refers to these media from now on, and to no others."""
        connection.execute("DELETE FROM reference WHERE holder = ?", (holder,))
        for attachment in attachments:
            medium = (attachment.sha256, attachment.num_bytes, time.time())
            connection.execute("INSERT OR IGNORE INTO medium VALUES (?, ?, ?)", medium)
            connection.execute("INSERT OR IGNORE INTO reference VALUES (?, ?)", (holder, attachment.sha256))

    def media_bytes(self) -> int:
        """Of all media that are kept."""
        return int(self.database.read("SELECT coalesce(sum(num_bytes), 0) FROM medium")[0][0])

    def clear_out(self, now_s: float) -> None:
        """Delete for good what was deleted UNDO_S before, and the files of media that nothing refers to."""
        for sha256 in self.database.write(lambda connection: _forget(connection, now_s)):
            self.media.remove(sha256, now_s - UNUSED_S)

    def drop_visitors(self, now_s: float) -> None:
        """Delete visitors' conversations that were not changed for a day, and the oldest where there are too many; and
        their drafts likewise."""

        def change(connection: sqlite3.Connection) -> None:
            newest = "SELECT id FROM conversation WHERE owner LIKE ? ORDER BY changed_s DESC LIMIT ?"
            connection.execute(
                f"DELETE FROM conversation WHERE owner LIKE ? AND (changed_s < ? OR id NOT IN ({newest}))",
                (_VISITORS, now_s - VISITOR_S, _VISITORS, MAX_VISITOR_CONVERSATIONS),
            )
            for table, limit in (("draft", MAX_VISITOR_DRAFTS), ("last_open", MAX_VISITOR_CONVERSATIONS)):
                # A row that is written anew gets the highest rowid.
                last = f"SELECT rowid FROM {table} WHERE owner LIKE ? ORDER BY rowid DESC LIMIT ?"
                gone = "conversation <> '' AND conversation NOT IN (SELECT id FROM conversation)"
                connection.execute(
                    f"DELETE FROM {table} WHERE owner LIKE ? AND (({gone}) OR rowid NOT IN ({last}))",
                    (_VISITORS, _VISITORS, limit),
                )

        self.database.write(change)
        self.clear_out(now_s)

    def close(self) -> None:
        self.database.close()


def _cut_off(connection: sqlite3.Connection) -> None:
    """Answers that were being written when the server ended: they are what was written of them."""
    rows = connection.execute("SELECT number, body FROM turn WHERE state = 'writing'").fetchall()
    for row in rows:
        text = json.loads(row["body"]).get("written", "")
        connection.execute("UPDATE turn SET state = 'cut_off', text = ? WHERE number = ?", (text, row["number"]))


def _forget(connection: sqlite3.Connection, now_s: float) -> list[str]:
    """Returns the hashes of the media whose files can go."""
    gone = "SELECT id FROM conversation WHERE deleted_s < ?"
    connection.execute(f"DELETE FROM draft WHERE conversation IN ({gone})", (now_s - UNDO_S,))
    drafts = "SELECT 'draft/' || owner || '/' || conversation FROM draft"
    connection.execute(f"DELETE FROM reference WHERE holder LIKE 'draft/%' AND holder NOT IN ({drafts})")
    connection.execute("DELETE FROM conversation WHERE deleted_s < ?", (now_s - UNDO_S,))
    unused = "FROM medium WHERE added_s < ? AND sha256 NOT IN (SELECT sha256 FROM reference)"
    hashes = [row[0] for row in connection.execute(f"SELECT sha256 {unused}", (now_s - UNUSED_S,))]
    connection.execute(f"DELETE {unused}", (now_s - UNUSED_S,))
    return hashes


def _set_aside(folder: Path) -> None:
    """The media of a damaged file: nothing refers to them any more, but somebody may want them back."""
    if folder.exists():
        folder.rename(folder.with_name(f"{folder.name}-damaged-{time.strftime('%Y%m%d-%H%M%S')}"))
