"""An answer that was not brought to its end goes on in the same message."""

from __future__ import annotations

import re

from tests.browser.test_conversations import STORY, address, grows, wait_until
from tests.pages import Person

QUESTION = "What is in this image?"
CONTINUE = "#chat .go-on:visible"


def continued(me: Person, num_parts: int) -> None:
    me.page.locator(CONTINUE).last.click()
    me.page.locator("#chat .note", has_text=f"in {num_parts} parts").last.wait_for()


def in_words(me: Person) -> tuple[int, int, int]:
    """Tokens in, from the cache and out, of the last note."""
    words = me.notes.last.inner_text()
    found = re.search(r"([\d,]+) tokens in(?: \(([\d,]+) from cache\))? · ([\d,]+) out", words)
    assert found, words
    return tuple(int((number or "0").replace(",", "")) for number in found.groups())


def test_an_answer_in_parts_is_the_answer_in_one(person, workbench_url, drawn, artifacts):
    me = person(workbench_url).arrive()
    me.set("Temperature", "0")
    me.drop(drawn("red", "circle"))
    whole = me.ask(QUESTION)
    assert me.page.locator(CONTINUE).count() == 0
    me.set("Max tokens", "3")
    me.button("Retry")
    me.page.get_by_text("length limit reached").wait_for()
    me.finished()
    begun, first = me.answer, in_words(me)
    assert whole.startswith(begun) and len(begun) < len(whole)
    me.page.screenshot(path=artifacts / "continue.png")
    me.set("Max tokens", "2")
    continued(me, 2)
    second = in_words(me)
    assert whole.startswith(me.answer) and len(me.answer) > len(begun)
    assert second[2] == 5 and second[0] > 2 * first[0]
    assert second[1] > first[1], "the beginning of the answer was computed anew"
    me.set("Max tokens", "")
    continued(me, 3)
    me.finished()
    assert me.answer == whole
    assert (me.asked.count(), me.answers.count(), me.notes.count()) == (2, 1, 1)
    assert me.page.locator(CONTINUE).count() == 0
    assert "picture 256 × 256" in me.page.locator("#chat .receipt summary").inner_text()
    me.page.locator("#chat .receipt summary").click()
    me.page.locator("#chat .receipt img").wait_for()
    me.page.reload()
    me.notes.last.wait_for()
    assert me.answer == whole and "in 3 parts" in me.notes.last.inner_text()
    me.page.get_by_label("Version before").click()
    me.page.get_by_text("1/2", exact=True).wait_for()
    assert me.answer == whole and "parts" not in me.notes.last.inner_text()


def test_stop_and_reload_in_the_middle_of_the_rest(person, slow_url):
    me = person(slow_url).arrive()
    me.set("Max tokens", "30")
    me.send(STORY)
    me.finished()
    begun = me.answer
    me.set("Max tokens", "")
    me.page.locator(CONTINUE).click()
    wait_until(lambda: len(me.answer) > len(begun))
    assert me.answer.startswith(begun.rstrip()[:20])
    address(me)
    me.page.reload()
    me.answers.last.wait_for()
    assert len(me.answer) > len(begun)
    grows(me)
    me.stop()
    me.finished()
    assert re.search(r"^\d[\d,]* out in 2 parts · stopped$", me.notes.last.inner_text())
    stopped = me.answer
    me.page.locator(CONTINUE).click()
    wait_until(lambda: len(me.answer) > len(stopped))
    me.stop()
    me.finished()
    assert "in 3 parts · stopped" in me.notes.last.inner_text()
    assert (me.asked.count(), me.answers.count(), me.notes.count()) == (1, 1, 1)


def test_what_follows_on_an_answer_stays_as_it_is(person, workbench_url):
    me = person(workbench_url).arrive()
    me.set("Max tokens", "2")
    begun = me.ask("Hello!")
    me.ask("What is a circle?")
    me.page.locator(CONTINUE).first.click()
    me.page.get_by_text("2/2", exact=True).wait_for()
    me.finished()
    assert me.asked.count() == 1 and len(me.answer) > len(begun)
    me.page.get_by_label("Version before").click()
    me.page.locator("#chat").get_by_text("What is a circle?").wait_for()
    assert me.answers.first.inner_text() == begun
