"""The line under the composer: what a message costs is known before it is sent, and it is what it then costs."""

from __future__ import annotations

import re

import httpx
import pytest

from engine.config import EngineConfig
from tests.pictures import data_url
from workbench.words import milliseconds


@pytest.fixture(scope="session")
def narrow_url(serve_page, engine_pool):
    """The demo model with a context that a clip of six frames does not fit into."""
    with serve_page(engine_pool.start(EngineConfig(max_model_len=64))) as url:
        yield url


def cost(me, pattern: str) -> str:
    """The line, once it says this."""
    me.page.locator("#cost .cost", has_text=re.compile(pattern)).wait_for()
    return me.page.locator("#cost .cost").inner_text()


def silent(me) -> None:
    me.page.wait_for_function("document.querySelector('#cost .cost > span').textContent === ''")


def test_a_picture_and_words_cost_what_was_said(person, workbench_url, drawn):
    """The page, /v1/tokenize and the usage of the request that follows: one number each for picture, prompt, rest."""
    picture = drawn("orange", "square")
    me = person(workbench_url).arrive()
    silent(me)
    me.drop(picture)
    alone = cost(me, r"picture \d+ tokens · [\d,]+ left")
    me.page.fill("#composer textarea", "What shape is it?")
    me.page.wait_for_function("old => document.querySelector('#cost .cost').innerText !== old", arg=alone)
    said = [int(number.replace(",", "")) for number in re.findall(r"([\d,]+) (?:tokens|left)", cost(me, "left"))]

    parts = [
        {"type": "image_url", "image_url": {"url": data_url(picture.read_bytes())}},
        {"type": "text", "text": "What shape is it?"},
    ]
    body = {"model": "default", "messages": [{"role": "user", "content": parts}]}
    told = httpx.post(f"{workbench_url}/v1/tokenize", json=body, timeout=60).json()
    assert said == [told["media"][0]["tokens"], told["max_model_len"] - told["count"]]

    me.page.press("#composer textarea", "Enter")
    me.finished()
    silent(me)
    assert int(me.notes.last.inner_text().split()[0]) == told["count"]


def test_the_time_that_is_shown_is_the_one_that_the_api_tells(person, workbench_url, drawn, monkeypatch):
    """For the same request: one expectation, in the page's words. Twin: until expectations have held, neither tells."""
    from engine.runtime.estimates.track_record import TrackRecord

    picture = drawn("blue", "triangle")
    parts = [
        {"type": "image_url", "image_url": {"url": data_url(picture.read_bytes())}},
        {"type": "text", "text": "Which colour has it?"},
    ]
    body = {"model": "default", "messages": [{"role": "user", "content": parts}], "max_tokens": 2}
    httpx.post(f"{workbench_url}/v1/chat/completions", json=body, timeout=60).raise_for_status()
    httpx.post(f"{workbench_url}/v1/cache/clear", timeout=60).raise_for_status()

    def compose(me):
        me.drop(picture)
        me.page.fill("#composer textarea", parts[1]["text"])
        cost(me, "left")
        me.page.wait_for_timeout(600)
        return httpx.post(f"{workbench_url}/v1/tokenize", json=body, timeout=60).json()["ttft_ms"]

    monkeypatch.setattr(TrackRecord, "trusts", lambda *_: False)
    me = person(workbench_url).arrive()
    assert compose(me) is None
    assert "first token" not in cost(me, "left")
    monkeypatch.setattr(TrackRecord, "trusts", lambda *_: True)
    me = person(workbench_url).arrive()
    told = compose(me)
    assert f"first token in about {milliseconds(told)}" in cost(me, "first token")


def test_what_others_do_is_a_part_of_it(person, slow_url):
    """The line is asked for again when more requests run. Twin: while nothing happens, it is not."""
    me = person(slow_url).arrive()
    me.page.fill("#composer textarea", "Hello there, what is this?")
    cost(me, "left")
    me.page.wait_for_timeout(2500)  # what was asked while the page was new has its answer
    asked = []
    me.page.on("request", lambda request: asked.append(request) if "/run/predict" in request.url else None)
    me.page.wait_for_timeout(1500)
    assert asked == []
    body = {"model": "default", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 400, "stream": True}
    with httpx.stream("POST", f"{slow_url}/v1/chat/completions", json=body, timeout=60) as answer:
        answer.raise_for_status()
        with me.page.expect_request(lambda request: "/run/predict" in request.url):
            pass


def test_typing_is_not_disturbed(person, workbench_url):
    """What is typed quickly is all there, the line speaks once it pauses, and nothing on the page moves."""
    me = person(workbench_url).arrive()
    place = me.page.locator("#composer").bounding_box()
    me.page.evaluate(
        """() => { window.said = 0; new MutationObserver(() => window.said++)
                   .observe(document.querySelector('#cost .cost > span'), {childList: true}); }"""
    )
    words = "Is there a red square to the left of the circle?"
    me.page.locator("#composer textarea").press_sequentially(words, delay=15)
    assert me.page.input_value("#composer textarea") == words
    cost(me, r"\d+ tokens · [\d,]+ left")
    me.page.wait_for_timeout(500)
    assert me.page.evaluate("window.said") <= 3, "it does not count every letter aloud"
    assert me.page.locator("#composer").bounding_box() == place


def test_what_does_not_fit_is_said_before_sending_and_made_to_fit_by_one_click(person, narrow_url, clip):
    me = person(narrow_url).arrive()
    me.set("Max tokens", "12")
    me.drop(clip)
    me.page.fill("#composer textarea", "What happens in this video?")
    over = cost(me, "does not fit")
    tokens = int(re.search(r"clip (\d+) tokens", over)[1])
    me.page.get_by_role("button", name="Make it fit").click()
    fitted = cost(me, "made smaller")
    fewer = int(re.search(r"clip (\d+) tokens", fitted)[1])
    left = int(re.search(r"(\d+) left", fitted)[1])
    assert fewer < tokens
    assert left >= 12
    me.page.press("#composer textarea", "Enter")
    me.finished()
    assert "circle" in me.answer.lower()
    assert int(me.notes.last.inner_text().split()[0]) == 64 - left
    assert f"{fewer} tokens" in me.page.locator("#chat .receipt summary").inner_text()


def test_what_others_do_meanwhile_does_not_drop_what_makes_it_fit(person, narrow_url, clip):
    me = person(narrow_url).arrive()
    me.set("Max tokens", "12")
    me.drop(clip)
    me.page.fill("#composer textarea", "What happens in this video?")
    cost(me, "does not fit")
    held = []

    def hold(route):
        held.append(route)

    me.page.route("**/run/predict*", hold)
    with me.page.expect_request("**/run/predict*"):
        me.page.get_by_role("button", name="Make it fit").click()
    # A later timer of the page ends after the one that asks anew once others run.
    me.page.evaluate(
        """() => { dispatchEvent(new Event("workbench-running"));
                   return new Promise(done => setTimeout(done, 1100)); }"""
    )
    for route in held:
        route.continue_()
    me.page.unroute("**/run/predict*")
    cost(me, "made smaller")


def test_without_the_click_it_is_refused(person, narrow_url, clip):
    """The twin: what the line says does not fit indeed does not."""
    me = person(narrow_url).arrive()
    me.drop(clip)
    me.send("What happens in this video?")
    me.page.locator("#chat .note-error").wait_for()
    assert "64" in me.notes.last.inner_text()
