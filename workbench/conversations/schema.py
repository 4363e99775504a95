"""The tables of the file of conversations, and how an older file becomes today's."""

from __future__ import annotations

import sqlite3

MIGRATIONS = (
    """
    CREATE TABLE conversation (
        id TEXT PRIMARY KEY, owner TEXT NOT NULL, title TEXT NOT NULL DEFAULT '', is_named INTEGER NOT NULL DEFAULT 0,
        created_s REAL NOT NULL, changed_s REAL NOT NULL, is_pinned INTEGER NOT NULL DEFAULT 0, deleted_s REAL,
        head TEXT, revision INTEGER NOT NULL DEFAULT 0, settings TEXT NOT NULL DEFAULT '{}'
    ) STRICT;
    CREATE INDEX conversation_list ON conversation(owner, is_pinned DESC, changed_s DESC);
    CREATE TABLE turn (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
        conversation TEXT NOT NULL REFERENCES conversation(id) ON DELETE CASCADE,
        parent TEXT, role TEXT NOT NULL, state TEXT NOT NULL, created_s REAL NOT NULL,
        text TEXT NOT NULL, body TEXT NOT NULL
    ) STRICT;
    CREATE INDEX turn_parent ON turn(conversation, parent);
    CREATE INDEX turn_state ON turn(state) WHERE state = 'writing';
    CREATE TABLE draft (
        owner TEXT NOT NULL, conversation TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (owner, conversation)
    ) STRICT;
    CREATE TABLE last_open (owner TEXT PRIMARY KEY, conversation TEXT NOT NULL) STRICT;
    CREATE TABLE medium (sha256 TEXT PRIMARY KEY, num_bytes INTEGER NOT NULL, added_s REAL NOT NULL) STRICT;
    CREATE TABLE reference (
        holder TEXT NOT NULL, sha256 TEXT NOT NULL, PRIMARY KEY (holder, sha256)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX reference_medium ON reference(sha256);
    CREATE VIRTUAL TABLE turn_text USING fts5(text, content='turn', content_rowid='number', tokenize='trigram');
    CREATE TRIGGER turn_added AFTER INSERT ON turn BEGIN
        INSERT INTO turn_text(rowid, text) VALUES (new.number, new.text);
    END;
    CREATE TRIGGER turn_removed AFTER DELETE ON turn BEGIN
        INSERT INTO turn_text(turn_text, rowid, text) VALUES ('delete', old.number, old.text);
        DELETE FROM reference WHERE holder = old.id;
    END;
    CREATE TRIGGER turn_changed AFTER UPDATE OF text ON turn BEGIN
        INSERT INTO turn_text(turn_text, rowid, text) VALUES ('delete', old.number, old.text);
        INSERT INTO turn_text(rowid, text) VALUES (new.number, new.text);
    END;
    """,
    """
    CREATE TABLE token_list (
        turn TEXT PRIMARY KEY REFERENCES turn(id) ON DELETE CASCADE, tokens TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
)
"""From version N to N + 1, in order. What stands here has been in somebody's file and never changes."""

VERSION = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a file to today's version, each step in a transaction of its own. A file of a later version stays as it is.

    https://www.sqlite.org/pragma.html#pragma_user_version
    """
    for number in range(version_of(connection), VERSION):
        connection.executescript(f"BEGIN IMMEDIATE; {MIGRATIONS[number]} PRAGMA user_version = {number + 1}; COMMIT;")


def version_of(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
