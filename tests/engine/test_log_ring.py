"""The last lines of the log: how many are kept, what is taken out of them, and which are given."""

from __future__ import annotations

import json
import logging

import pytest

from engine.log_ring import MAX_LINE_BYTES, MAX_LINES, LogRing, level_of
from engine.request_log.redact import HIDDEN


def told(ring: LogRing, text: str, *arguments: object, level: int = logging.WARNING) -> None:
    """Hand the ring a line, as a logger does."""
    ring.handle(logging.LogRecord("engine.test", level, __file__, 1, text, arguments, None))


def texts(ring: LogRing, after: int | None = None, limit: int = MAX_LINES, level: str = "debug") -> list[str]:
    return [line.text for line in ring.lines(after, limit, level)[0]]


def test_only_so_many_lines_are_kept() -> None:
    ring = LogRing(max_lines=3)
    for number in range(5):
        told(ring, "line %d", number)
    assert texts(ring) == ["line 2", "line 3", "line 4"] and ring.num_gone == 2


def test_only_so_many_bytes_are_kept() -> None:
    ring = LogRing(max_bytes=1000)
    for number in range(9):
        told(ring, f"{number}" + "ä" * 200)
    kept = texts(ring)
    assert [text[0] for text in kept] == ["7", "8"] and sum(len(text.encode()) for text in kept) <= 1000
    told(ring, "x" * 5000)
    assert texts(ring) == ["x" * 5000], "the last line is kept, however long"


def test_a_long_line_is_cut_and_says_so() -> None:
    ring = LogRing()
    told(ring, "ä" * MAX_LINE_BYTES)
    (text,) = texts(ring)
    assert text.endswith("ä… (16 KiB more)") and len(text.encode()) < MAX_LINE_BYTES + 100


SECRETS = {
    "Authorization: Bearer abcdefghijklmnop1234": "abcdefghijklmnop1234",
    "sk-abcdefghijklmnopqrstuvwx was refused": "sk-abcdefghijklmnopqrstuvwx",
    "GET https://me:hunter2@host/a?token=t0psecret&x=1": "t0psecret",
    "from https://me:hunter2@host/a": "hunter2",
    "the key pa55word!": "pa55word!",
}


@pytest.mark.parametrize("text", SECRETS)
def test_secrets_are_taken_out(text: str) -> None:
    """This server's own key, keys of known forms, and those of URLs: of lines to come, and of those that are here."""
    ring = LogRing()
    told(ring, "before: %s", text)
    ring.hide(("pa55word!",))
    told(ring, "after: %s", text)
    kept = texts(ring)
    assert len(kept) == 2 and all(HIDDEN in one and SECRETS[text] not in one for one in kept)


def test_another_secret_is_one_more() -> None:
    ring = LogRing()
    ring.hide(("first-secret",))
    ring.hide(("other-secret",))
    told(ring, "%s", "first-secret and other-secret")
    assert "secret" not in texts(ring)[0].replace(HIDDEN, "") and "secret" not in ring.redacted(
        "a first-secret"
    ).replace(HIDDEN, "")


def test_half_of_a_secret_is_not_left_where_a_line_is_cut() -> None:
    ring = LogRing()
    told(ring, "x" * (MAX_LINE_BYTES - 11) + " sk-abcdefghijklmnopqrstuvwxyz and more")
    assert "sk-abc" not in texts(ring)[0]


def test_what_a_terminal_would_follow_is_written_out() -> None:
    """And half of a surrogate pair, which no answer could be made of."""
    ring = LogRing()
    told(ring, "a\x1b[31mred\x00 \u202eback\r\n\tnext \ud800")
    assert texts(ring) == ["a\\x1b[31mred\\x00 \\u202eback\n\tnext ?"]
    json.dumps(texts(ring), ensure_ascii=False).encode()


def test_a_traceback_is_part_of_its_line() -> None:
    ring = LogRing()
    logger = logging.Logger("engine.test")
    logger.addHandler(ring)
    try:
        raise ValueError("sk-abcdefghijklmnopqrstuvwx")
    except ValueError:
        logger.exception("it failed")
    (text,) = texts(ring)
    assert text.startswith("it failed\nTraceback") and text.endswith(f"ValueError: {HIDDEN}")


def test_a_line_that_cannot_be_made_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    ring = LogRing()
    told(ring, "%d", "no number")
    told(ring, "next")
    assert texts(ring) == ["next"] and "Logging error" in capsys.readouterr().err


def test_the_last_ones_or_those_after_an_id() -> None:
    ring = LogRing()
    for number in range(6):
        told(ring, "%d", number)
    ids = [line.id for line in ring.lines(None, 100)[0]]
    assert ids == sorted(set(ids)) and ids[-1] < 2**53
    assert texts(ring, limit=2) == ["4", "5"] and ring.lines(None, 2)[1] and not ring.lines(None, 6)[1]
    assert texts(ring, after=ids[1], limit=2) == ["2", "3"] and ring.lines(ids[1], 2)[1]
    assert texts(ring, after=ids[3]) == ["4", "5"] and texts(ring, after=ids[5]) == []
    assert texts(ring, after=ids[5] + 10**6) == ["0", "1", "2", "3", "4", "5"], "of a process whose clock went ahead"


def test_a_process_that_comes_later_has_higher_ids() -> None:
    first, second = LogRing(), LogRing()
    for ring in (first, second):
        told(ring, "hello")
    assert second.lines(None, 1)[0][0].id > first.lines(None, 1)[0][0].id


def test_only_lines_of_a_level() -> None:
    ring = LogRing()
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        told(ring, logging.getLevelName(level), level=level)
    assert texts(ring, level="warning") == ["WARNING", "ERROR", "CRITICAL"]
    assert texts(ring, level="info", limit=2) == ["ERROR", "CRITICAL"]


@pytest.mark.parametrize(
    ("number", "name"), [(5, "debug"), (10, "debug"), (25, "info"), (30, "warning"), (50, "error")]
)
def test_levels_of_other_libraries(number: int, name: str) -> None:
    assert level_of(number) == name
