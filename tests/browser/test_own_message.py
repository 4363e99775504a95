"""One's own message is on the page before the server has it, and stays there whatever the server does with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Route

from tests.pages import Person
from tests.waiting import wait_until

QUESTION = "What shape is it?"
PLACE = "node => [node.getBoundingClientRect().x, node.getBoundingClientRect().y]"


def hold_back(me: Person, then: Callable[[Any], None]) -> None:
    """What asks the server about the question, the message itself among it, is given to `then`."""

    def see(route: Any) -> None:
        (then if json.dumps(QUESTION) in (route.request.post_data or "") else Route.continue_)(route)

    me.page.route("**/gradio_api/run/**", see)


def test_it_is_there_while_the_server_is_silent(person, workbench_url, drawn):
    me = person(workbench_url).arrive()
    me.drop(drawn("red", "circle"))
    kept: list[Any] = []
    is_silent = True
    hold_back(me, lambda route: kept.append(route) if is_silent else route.continue_())
    me.send(QUESTION)
    wait_until(lambda: kept or me.page.wait_for_timeout(20))  # which lets `hold_back` hear of it
    words, picture = me.asked.get_by_text(QUESTION, exact=True), me.page.locator("#chat .turn.user .medium img")
    assert words.count() == picture.count() == 1
    assert me.page.locator("#composer textarea").input_value() == ""
    assert me.page.locator("#composer .thumbnail-item").count() == 0
    assert me.answers.count() == 0
    me.page.wait_for_function("document.querySelector('#chat .turn.user .medium img').naturalWidth > 0")
    node, place = words.element_handle(), words.evaluate(PLACE)
    is_silent = False
    for route in kept:  # the line that counts tokens may have asked about the same words
        route.continue_()
    me.finished()
    assert words.count() == picture.count() == 1
    assert words.evaluate("(node, before) => node === before", node), "the server's version is another element"
    assert words.evaluate(PLACE) == place, "the server's version jumped to another place"


def test_it_stays_where_the_server_fails(person, workbench_url, drawn):
    """The page says so, and gives text and picture back."""
    me = person(workbench_url).arrive()
    me.drop(drawn("red", "circle"))
    hold_back(me, lambda route: route.fulfill(status=500, json={"error": "no"}))
    me.send(QUESTION)
    said = me.page.locator("#chat .turn.user .unsent")
    said.wait_for()
    assert "Not sent" in said.inner_text()
    assert me.asked.get_by_text(QUESTION, exact=True).count() == 1
    assert me.page.locator("#chat .turn.user .medium img").count() == 1
    said.get_by_role("button").click()
    me.page.locator("#composer .thumbnail-item").wait_for()
    assert me.page.locator("#composer textarea").input_value() == QUESTION
    assert me.page.locator("#chat .turn").count() == 0
    me.page.unroute("**/gradio_api/run/**")
    me.page.press("#composer textarea", "Enter")
    me.finished()
    assert "circle" in me.answer.lower()
    assert me.complaints and all("500" in one for one in me.complaints)  # the browser's own line about the answer
    me.complaints.clear()


def test_it_is_drawn_in_the_event_of_the_key_and_a_second_enter_sends_nothing_more(person, workbench_url):
    me = person(workbench_url).arrive()
    me.page.fill("#composer textarea", QUESTION)
    drawn = me.page.evaluate(
        """() => {
          const press = () => document.querySelector("#composer textarea").dispatchEvent(
            new KeyboardEvent("keypress", { key: "Enter", bubbles: true, cancelable: true }));
          press();
          const drawn = document.querySelector("#chat .turn.user")?.textContent ?? "";
          press();
          document.querySelector("#composer .submit-button").click();
          return drawn;
        }"""
    )
    assert QUESTION in drawn
    me.finished()
    assert me.asked.count() == 1
