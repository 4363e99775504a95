"""Long answers, from a model that finds no end: they stream, and each is stopped by its own page only."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from tests.waiting import wait_until

QUESTION = "Tell me a long story."


def num_running(engine: Any) -> int:
    return len(engine.snapshot().running)


@pytest.fixture
def writer(person, slow_url):
    """writer() -> a Person whose answer is being written."""

    def make():
        me = person(slow_url).arrive()
        me.send(QUESTION)
        me.answers.last.wait_for()
        return me

    return make


def test_an_answer_grows_while_it_is_written(writer):
    me = writer()
    lengths = []

    def has_grown() -> bool:
        lengths.append(len(me.answer))
        return len(set(lengths)) >= 4

    wait_until(has_grown)
    assert me.notes.count() == 0, "it had ended before"
    me.stop()
    me.finished()
    assert lengths == sorted(lengths)


def test_stop_keeps_what_was_written_and_frees_the_engine(writer, slow_engine):
    me = writer()
    written = len(me.answer)
    me.stop()
    me.finished()
    wait_until(lambda: num_running(slow_engine) == 0)
    num_tokens = int(re.fullmatch(r"([\d,]+) out · stopped", me.notes.last.inner_text())[1].replace(",", ""))
    assert 0 < num_tokens < 3000
    assert len(me.answer) >= written
    after = me.answer
    time.sleep(0.5)
    assert me.answer == after


def test_escape_stops(writer):
    me = writer()
    me.page.keyboard.press("Escape")
    me.finished()
    assert "stopped" in me.notes.last.inner_text()


def test_stop_in_one_page_leaves_the_other_alone(writer, slow_engine):
    one, two = writer(), writer()
    one.stop()
    one.finished()
    wait_until(lambda: num_running(slow_engine) == 1)
    before = len(two.answer)
    wait_until(lambda: len(two.answer) > before)
    assert two.notes.count() == 0
    two.stop()
    two.finished()


def test_four_pages_write_at_once(person, slow_url, slow_engine):
    pages = [person(slow_url).arrive() for _ in range(4)]
    for page in pages:
        page.send(QUESTION)
    wait_until(lambda: num_running(slow_engine) == 4)
    for page in pages:
        page.stop()
        page.finished()


def test_an_answer_that_nobody_looks_at_ends_after_a_while(browser, serve_page, slow_engine):
    """A closed page ends nothing at once (tests/browser/test_conversations.py); one that never comes back does."""
    from tests.pages import Person

    with serve_page(slow_engine, unwatched_s=1.5) as url:
        wait_until(lambda: num_running(slow_engine) == 0)
        before = slow_engine.snapshot().totals.cancelled
        me = Person(browser, url).arrive()
        me.send(QUESTION)
        me.answers.last.wait_for()
        wait_until(lambda: num_running(slow_engine) == 1)
        left_s = time.monotonic()
        me.leave()
        wait_until(lambda: num_running(slow_engine) == 0)
        assert time.monotonic() - left_s >= 1.5, "it ended with its page"
        wait_until(lambda: slow_engine.snapshot().totals.cancelled == before + 1)


def test_the_next_message_can_be_typed_but_not_sent_meanwhile(writer):
    me = writer()
    me.send("and then?")
    time.sleep(0.5)
    assert me.page.input_value("#composer textarea") == "and then?"
    assert me.asked.count() == 1
    me.stop()
    me.finished()
    assert me.page.input_value("#composer textarea") == "and then?"
    me.page.press("#composer textarea", "Enter")
    me.page.locator("#composer .stop-button").wait_for()
    assert me.asked.count() == 2
    me.stop()
    me.finished(2)


def test_an_answer_goes_on_beside_a_new_chat(writer, slow_engine):
    me = writer()
    address = me.page.url
    me.page.locator('#chat button[aria-label="New chat"]').click()
    me.page.locator("#chat .welcome").wait_for()
    time.sleep(0.5)
    assert me.answers.count() == 0
    wait_until(lambda: num_running(slow_engine) == 1)
    me.page.go_back()
    me.answers.last.wait_for()
    assert me.page.url == address
    before = len(me.answer)
    wait_until(lambda: len(me.answer) > before)
    me.stop()
    me.finished()
    wait_until(lambda: num_running(slow_engine) == 0)


def test_the_header_counts_what_runs(writer):
    me = writer()
    me.page.get_by_text("1 running").wait_for()
    me.stop()
    me.finished()
    me.page.get_by_text("0 running").wait_for()
