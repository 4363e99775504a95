"""The Cache tab as a person uses it: what a follow-up question reused, what is held, and whether it is right."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest

from tests.pages import LOOKS, Person

QUESTION = "What is in this image?"
SETTLE_MS = 2500
"""Two ticks of the tab's clock, with room for a slow machine."""


class CacheTab:
    """The tab in front of a person."""

    def __init__(self, me: Person) -> None:
        self.me, self.page = me, me.page

    def open(self) -> CacheTab:
        self.page.get_by_role("tab", name="Cache").click()
        self.page.locator("#cache .tile").first.wait_for()
        return self

    def chat(self) -> None:
        self.page.get_by_role("tab", name="Chat").click()
        self.page.locator("#composer textarea").wait_for()

    @property
    def lanes(self) -> Any:
        return self.page.locator("#cache .lane")

    def lane(self, words: str) -> Any:
        """The newest lane, once it says these words."""
        lane = self.lanes.first
        lane.locator(".words", has_text=words).wait_for()
        return lane

    def runs(self, lane: Any) -> list[tuple[str, bool]]:
        """(how, is a medium) of each segment, in order."""
        names = lane.locator(".segment").evaluate_all("parts => parts.map(part => part.className.split(' '))")
        return [(name[1], "medium" in name) for name in names]

    @property
    def cells(self) -> Any:
        return self.page.locator("#cache button.cell")

    @property
    def details(self) -> Any:
        return self.page.locator("#cache .details")

    @property
    def cards(self) -> Any:
        return self.page.locator("#cache .card")


@pytest.fixture
def empty(workbench_url):
    """The same page's cache with nothing in it."""
    for block in httpx.get(f"{workbench_url}/v1/cache/blocks").json()["data"]:
        httpx.post(f"{workbench_url}/v1/cache/blocks/{block['key']}/unpin")
    assert httpx.post(f"{workbench_url}/v1/cache/clear").json()["blocks"] == 0


@pytest.fixture
def asked(person, workbench_url, drawn, empty):
    """asked(**context) -> a person who has asked two questions about a picture, and looks at the Cache tab."""

    def make(**context: Any) -> CacheTab:
        me = person(workbench_url, **context).arrive()
        me.drop(drawn("red", "circle"))
        me.ask(QUESTION)
        me.ask("What color is it?")
        return CacheTab(me).open()

    return make


def used(tab: CacheTab) -> tuple[int, int]:
    """(cached, prompt) tokens, as the note under the last answer says them."""
    total, cached = re.match(r"(\d+) tokens in \((\d+) from cache\)", tab.me.notes.last.text_content()).groups()
    return int(cached), int(total)


def test_a_follow_up_question_picture_reused_question_computed(asked):
    tab = asked()
    cached, total = used(tab)
    lane = tab.lane(f"{cached} of {total} tokens reused")
    runs = tab.runs(lane)
    assert ("reused", True) in runs and runs[-1] == ("computed", False)
    assert ("computed", True) not in runs
    assert "What color" in lane.locator(".segment.computed").inner_text()
    assert lane.locator(".segment.medium img").get_attribute("src").startswith("data:image/webp")
    first = tab.lanes.nth(1)
    assert ("computed", True) in tab.runs(first), "the twin: its first question had the picture computed"

    why = lane.locator(".why")
    assert not why.is_visible()
    lane.locator(".bar").click()
    assert "What color" in why.inner_text()
    lane.locator(".bar").click()
    assert not why.is_visible()


def test_the_note_under_an_answer_leads_to_its_strip(asked):
    tab = asked()
    cached, total = used(tab)
    tab.chat()
    tab.me.ask("Hello!")
    tab.me.page.locator("#chat .note a").first.click()
    lane = tab.page.locator("#cache .lane.open")
    lane.wait_for()
    assert lane.locator(".words").inner_text().startswith(f"{cached} of {total} tokens reused")
    assert lane.locator(".why").is_visible()
    assert tab.page.evaluate("document.activeElement.className") == "bar"
    assert tab.page.evaluate("new URLSearchParams(location.search).get('tab')") == "cache"
    assert "#" not in tab.page.url


def test_the_lamp_is_green_and_says_what_was_compared(asked):
    tab = asked()
    newest = tab.lanes.first.get_attribute("data-key")
    tab.page.get_by_role("button", name="Check the latest reuse").click()
    truth = tab.lanes.first.locator('.verdict[data-lamp="green"]')
    truth.wait_for()
    words = truth.inner_text()
    assert "token for token" in words
    assert re.search(r"First token [\d.]+ m?s with the cache, [\d.]+ m?s without", words)
    tab.page.wait_for_timeout(SETTLE_MS)
    assert tab.lanes.first.get_attribute("data-key") == newest, "a replay is no request of its own"


def test_a_block_tells_its_text_and_picture_and_is_pinned_kept_and_dropped(asked, workbench_url):
    tab = asked()
    tab.cells.first.click()
    tab.details.locator(".text").wait_for()
    assert QUESTION in tab.details.locator(".text").inner_text()
    assert tab.details.locator(".text img").count() >= 1
    assert "tokens 1 to" in tab.details.locator(".facts").inner_text()
    tab.details.get_by_role("button", name="Pin").click()
    tab.page.locator("#cache .cell.pinned").wait_for()
    tab.details.get_by_role("button", name="Drop").click()
    tab.details.get_by_role("button", name="Drop it?").click()
    tab.details.get_by_text("pin holds this").wait_for()
    tab.page.get_by_role("button", name="Clear", exact=True).last.click()
    tab.page.get_by_role("button", name="Forget everything?").click()
    tab.details.locator(".text").wait_for(state="detached")
    (kept,) = httpx.get(f"{workbench_url}/v1/cache/blocks").json()["data"]
    assert tab.cells.count() == 1 and kept["pinned"]

    card = tab.cards.first
    assert card.locator("img").get_attribute("src").startswith("data:image/webp")
    card.get_by_role("button", name=re.compile("^Unpin: Prompt")).click()
    card.get_by_role("button", name=re.compile("^Pin: Prompt")).wait_for()
    card.get_by_role("button", name=re.compile("^Drop: Prompt")).click()
    card.get_by_text("Drop it?").click()
    tab.cells.wait_for(state="detached")
    assert httpx.get(f"{workbench_url}/v1/cache/blocks").json()["data"] == []


def test_features_are_pinned_and_dropped_apart_from_the_prompt(asked, workbench_url):
    tab = asked()
    features = tab.cards.first.locator(".share.features")
    features.get_by_role("button", name=re.compile("^Pin: Features")).click()
    features.get_by_role("button", name=re.compile("^Unpin: Features")).wait_for()
    tab.page.get_by_role("button", name="Clear", exact=True).last.click()
    tab.page.get_by_role("button", name="Forget everything?").click()
    tab.cells.first.wait_for(state="detached")
    (unit,) = httpx.get(f"{workbench_url}/v1/cache/features").json()["data"]
    assert unit["pinned"] and tab.cards.count() == 1
    features.get_by_role("button", name=re.compile("^Unpin: Features")).click()
    features.get_by_role("button", name=re.compile("^Pin: Features")).wait_for()
    features.get_by_role("button", name=re.compile("^Drop: Features")).click()
    features.get_by_text("Drop it?").click()
    tab.cards.first.wait_for(state="detached")
    assert httpx.get(f"{workbench_url}/v1/cache/features").json()["data"] == []


def test_nothing_flickers_and_nothing_is_sent_when_nothing_changed(asked):
    """Elements keep who they are over the ticks, and with it focus, scroll and what is open."""
    tab = asked()
    tab.lanes.first.locator(".bar").click()
    tab.page.wait_for_timeout(SETTLE_MS)
    answers: list[Any] = []
    tab.page.on("response", lambda answer: answers.append(answer) if "run/predict" in answer.url else None)
    changes = tab.page.evaluate_handle("""() => {
        const seen = [], what = { subtree: true, childList: true, attributes: true, characterData: true };
        const observer = new MutationObserver((all) => seen.push(...all.map((one) => one.target.className)));
        for (const part of document.querySelectorAll("#cache :is(.totals, .strips, .blocks)")) {
            observer.observe(part, what);
            for (const node of part.querySelectorAll("*")) node.stays = true;
        }
        return seen;
    }""")
    tab.page.locator("#cache button.cell").first.focus()
    tab.page.wait_for_timeout(SETTLE_MS + 1000)
    assert changes.json_value() == []
    stayed = "[...document.querySelectorAll('#cache :is(.totals, .strips, .blocks) *')].every(node => node.stays)"
    assert tab.page.evaluate(stayed)
    assert tab.page.evaluate("document.activeElement.classList.contains('cell')")
    ticks = [data for answer in answers if len(data := answer.json()["data"]) == 4]
    assert ticks
    skipped = {"__type__": "update", "props": {"__type__": "update"}}
    assert [part for data in ticks for part in data[:3] if part != skipped] == []


def test_nothing_moves_under_the_pointer_while_others_ask(asked, workbench_url):
    """A new prompt is a new lane on top, which would push the one that somebody is about to click."""
    tab = asked()
    lane = tab.lanes.nth(1)
    lane.locator(".bar").hover()
    place, key = lane.bounding_box(), lane.get_attribute("data-key")
    body = {"model": "default", "messages": [{"role": "user", "content": "Hello there!"}], "max_tokens": 2}
    httpx.post(f"{workbench_url}/v1/chat/completions", json=body, timeout=60).raise_for_status()
    note = tab.page.locator("#cache .strips .later")
    note.wait_for()
    assert (lane.bounding_box(), lane.get_attribute("data-key")) == (place, key)
    tab.page.mouse.move(2, 2)
    note.wait_for(state="hidden")
    tab.page.wait_for_function("key => document.querySelectorAll('#cache .lane')[2].dataset.key === key", arg=key)
    assert lane.get_attribute("data-key") != key, "the twin: it would have moved"


def test_dropping_is_asked_twice(asked, workbench_url):
    tab = asked()
    tab.cells.first.click()
    tab.details.get_by_role("button", name="Drop").click()
    tab.details.get_by_role("button", name="Drop it?").wait_for()
    tab.page.wait_for_timeout(SETTLE_MS)
    assert httpx.get(f"{workbench_url}/v1/cache/blocks").json()["data"], "one click drops nothing"


def test_the_clock_runs_only_while_the_tab_is_shown(asked):
    tab = asked()
    ticks: list[str] = []

    def note(request: Any) -> None:
        if "run/predict" in request.url:
            ticks.append(json.loads(request.post_data)["fn_index"])

    tab.chat()
    tab.page.wait_for_timeout(1500)
    tab.page.on("request", note)
    tab.page.wait_for_timeout(SETTLE_MS)
    away = set(ticks)
    assert away == set(), "the header's figures do not come through Gradio"
    tab.open()
    tab.page.wait_for_timeout(SETTLE_MS)
    assert set(ticks) > away


def test_a_visitor_sees_their_own_words_and_of_others_only_sizes(person, serve_page, demo_engine, drawn):
    with serve_page(demo_engine, host="0.0.0.0", open_access=True) as url:
        one, two = person(url).arrive(), person(url).arrive()
        one.drop(drawn("red", "circle"))
        one.ask(QUESTION)
        one.ask("4711 is my secret.")
        two.ask("Hello!")
        mine, theirs = CacheTab(one).open(), CacheTab(two).open()
        mine.page.locator("#cache .lane", has_text="Chat").first.wait_for()
        assert mine.lanes.nth(1).locator(".segment.medium img").count() == 1
        shown = theirs.page.locator("#cache")
        theirs.lanes.nth(2).wait_for()
        assert theirs.lanes.nth(0).locator(".who").inner_text().startswith("Chat")
        assert theirs.lanes.nth(1).locator(".who").inner_text().startswith("Another visitor")
        assert theirs.lanes.nth(1).locator(".segment.medium").count() == 0
        html = shown.inner_html()
        assert "4711" not in html and "secret" not in html
        assert "4711" in mine.page.locator("#cache").inner_html(), "the twin: it would be seen"
        assert theirs.cells.count() < theirs.page.locator("#cache .cell:not(.free)").count()
        assert not theirs.page.get_by_role("button", name="Clear", exact=True).last.is_visible()
        for page in (one, two):
            page.leave()


@pytest.mark.parametrize("name", LOOKS)
def test_looks(asked, artifacts, name):
    tab = asked(**LOOKS[name])
    assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    box = tab.lanes.first.locator(".bar").bounding_box()
    assert box["y"] + box["height"] < tab.page.viewport_size["height"], "the first screen shows a strip"
    unnamed = tab.page.evaluate("""[...document.querySelectorAll("#cache button:not([hidden])")]
        .filter(one => !(one.getAttribute("aria-label") || one.textContent).trim()).length""")
    assert unnamed == 0
    tab.me.shoot(artifacts / f"cache-{name}.png")
    tab.cells.first.click()
    tab.details.locator(".text").wait_for()
    tab.me.shoot(artifacts / f"cache-details-{name}.png")
    assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
