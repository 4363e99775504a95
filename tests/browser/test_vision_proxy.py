"""The chat with a model that cannot see: pictures are offered, and each answer shows what the vision model said."""

from __future__ import annotations

import re

import pytest

from engine.config import EngineConfig, ModelSpec, VisionProxy

EDITED = "A <b>green</b> circle."
MARKUP = '<img src=x onerror="document.title=1"> **red**'


@pytest.fixture(scope="module")
def proxied_engine(engine_pool, tiny_model):
    """A model that reads, with the demo model for its eyes."""
    proxy = VisionProxy("demo", "{question}")
    reader = ModelSpec(str(tiny_model("llama")), name="reader", vision="proxy", vision_proxy=proxy)
    return engine_pool.start(EngineConfig(model=reader, more_models=(ModelSpec(),), max_tokens=8))


@pytest.fixture(scope="module")
def proxied_url(serve_page, proxied_engine):
    with serve_page(proxied_engine) as url:
        yield url


def steps(me):
    return me.page.locator("#chat .described")


def test_an_answer_shows_what_the_vision_model_said(person, proxied_url, drawn, model_says):
    me = person(proxied_url).arrive()
    me.page.locator("#composer textarea[placeholder*='pictures']").wait_for()
    me.drop(drawn("red", "circle"))
    me.page.locator("#cost .cost", has_text="demo describes the media first").wait_for()
    me.ask("What color is the circle?")
    step = steps(me)
    assert step.count() == 1 and step.get_attribute("open") is None
    summary = step.locator("summary")
    assert summary.inner_text() == "What the vision model said · 1 picture · demo"
    summary.click()
    assert step.locator(".said").inner_text() == "It is red."
    cost = step.locator("p:not(.said)").inner_text()
    assert re.fullmatch(r"\d+ \+ \d+ tokens(?: · \d+ from cache)? · [\d.]+ (?:m?s)", cost), cost

    me.ask("And again?")
    again = steps(me).nth(1)
    again.locator("summary").click()
    assert again.locator(".said").inner_text() == "It is red."
    assert again.locator("p:not(.said)").inner_text().startswith("kept")

    me.page.reload()
    me.page.locator("#chat .described").nth(1).wait_for()
    assert steps(me).nth(0).locator(".said").text_content() == "It is red.", "it is kept with the conversation"

    steps(me).nth(1).locator("summary").click()
    assert steps(me).nth(1).get_by_role("button", name="Edit and send again").count() == 0, "of an earlier message"
    steps(me).nth(0).locator("summary").click()
    steps(me).nth(0).get_by_role("button", name="Edit and send again").click()
    me.page.get_by_label("Edit what was said about").fill(EDITED)
    me.page.get_by_label("Edit what was said about").press("Enter")
    me.page.locator("#chat .described", has_text="edited: nothing was asked").wait_for(state="attached")
    me.finished()
    assert steps(me).count() == 1 and steps(me).locator(".said").text_content() == EDITED
    assert me.page.locator("#chat .turn.user .branches").inner_text().split() == ["‹", "2/2", "›"]

    model_says(MARKUP)
    me.drop(drawn("blue", "square"))
    me.ask("What is it?")
    last = steps(me).nth(1)
    last.locator("summary").click()
    assert last.locator(".said").all_inner_texts() == [EDITED, MARKUP], "words, never markup; the edit is kept"
    assert last.locator("img").count() == 0
