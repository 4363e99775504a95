"""Finding conversations by words, anywhere in their titles and messages. Blocking; any thread.

Words of three letters and more are looked up in a trigram index (https://www.sqlite.org/fts5.html#the_trigram_tokenizer),
so that a part of a word is found too, in any script; shorter ones are looked for in what the longer ones leave.
"""

from __future__ import annotations

from workbench.conversations.owned import OwnedConversations, conversation_from_row
from workbench.conversations.types import SearchHit

MAX_HITS = 100
MAX_QUERY_CHARS = 200
TRIGRAM_CHARS = 3
EXCERPT_CHARS = 90


def search(owned: OwnedConversations, query: str) -> list[SearchHit]:
    """The conversations with all words in their title or all in one message, the last changed first."""
    words = query[:MAX_QUERY_CHARS].replace("\0", " ").split()  # at a zero the index takes its question as ended
    if not words:
        return [SearchHit(conversation) for conversation in owned.listed(MAX_HITS)]
    sql, values = _matching_turns(words)
    title_sql = " AND ".join("title LIKE ? ESCAPE '\\'" for _ in words)
    rows = owned.store.database.read(
        f"""
        WITH matching AS ({sql})
        SELECT conversation.*,
            (SELECT text FROM matching WHERE matching.conversation = conversation.id LIMIT 1) AS found_text
        FROM conversation
        WHERE owner = ? AND deleted_s IS NULL
            AND ((({title_sql})) OR id IN (SELECT conversation FROM matching))
        ORDER BY is_pinned DESC, changed_s DESC LIMIT ?
        """,
        (*values, owned.owner, *map(_like, words), MAX_HITS),
    )
    return [SearchHit(conversation_from_row(row), excerpt(row["found_text"] or "", words)) for row in rows]


def _matching_turns(words: list[str]) -> tuple[str, list[str]]:
    """SQL for (conversation, text) of the turns that hold all words, and its values."""
    long = [word for word in words if len(word) >= TRIGRAM_CHARS]
    short = [word for word in words if len(word) < TRIGRAM_CHARS]
    sql, values = "SELECT turn.conversation, turn.text FROM turn WHERE 1", []
    if long:
        sql = (
            "SELECT turn.conversation, turn.text FROM turn_text JOIN turn ON turn.number = turn_text.rowid "
            "WHERE turn_text MATCH ?"
        )
        values.append(" AND ".join('"' + word.replace('"', '""') + '"' for word in long))
    for word in short:
        sql += " AND turn.text LIKE ? ESCAPE '\\'"
        values.append(_like(word))
    return sql, values


def _like(word: str) -> str:
    return "%" + word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"


def excerpt(text: str, words: list[str]) -> str:
    """A line of the text around the first of the words; "" where it holds none."""
    flat = " ".join(text.split())
    places = [at for word in words if (at := flat.lower().find(word.lower())) >= 0]
    if not places:
        return ""
    start = max(0, min(places) - EXCERPT_CHARS // 3)
    if start:
        start = flat.find(" ", start) + 1 or start
    piece = flat[start : start + EXCERPT_CHARS]
    return ("…" if start else "") + piece + ("…" if start + EXCERPT_CHARS < len(flat) else "")
