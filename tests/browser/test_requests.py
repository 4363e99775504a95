"""The Requests tab in a browser: requests appear as they run, with the API's numbers, and everybody sees their own."""

from __future__ import annotations

import csv
import json
import threading
from typing import Any

import httpx
import openai
import pytest

from engine.config import EngineConfig
from tests.browser.test_frame import serious
from tests.pages import DESKTOP, PHONE
from tests.waiting import wait_until

CONTEXTS = {"light": DESKTOP, "dark": {**DESKTOP, "color_scheme": "dark"}, "phone": PHONE}
NUMBERS = ("ttft_ms", "total_ms", "prompt_tokens", "cached_tokens", "completion_tokens")


def open_requests(me: Any) -> Any:
    me.page.get_by_role("tab", name="Requests").click()
    me.page.locator("#requests h3").wait_for()
    return me.page


def ask(url: str, text: str, num_tokens: int = 4) -> str:
    """The id of the answer to a request of OpenAI's client."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120) as client:
        answer = client.chat.completions.create(
            model="default", max_tokens=num_tokens, extra_body={"ignore_eos": True},
            messages=[{"role": "user", "content": text}],
        )  # fmt: skip
    return answer.id


def line(page: Any, id: str) -> Any:
    return page.locator(f'#requests tr[data-key="{id}"]')


def test_a_request_of_the_sdk_appears_with_the_numbers_of_the_api(person, workbench_url):
    page = open_requests(person(workbench_url).arrive())
    id = ask(workbench_url, "Does this appear?")
    line(page, id).wait_for()
    wait_until(lambda: "finished" in line(page, id).inner_text(), "it never ended on the page")
    told = httpx.get(f"{workbench_url}/v1/requests/{id}").json()
    for name in NUMBERS:
        assert float(line(page, id).get_attribute(f"data-{name.replace('_', '-')}")) == told[name], name
    page.locator("#requests .axis .bars").first.wait_for(state="attached")


def test_a_request_is_seen_while_it_runs_and_grows_without_flicker(person, slow_url):
    page = open_requests(person(slow_url).arrive())
    ask(slow_url, "Something for the axis.")
    page.locator("#requests .axis .bars").first.wait_for(state="attached")
    page.evaluate("document.querySelector('#requests .axis svg.main-svg').marked = true")
    with httpx.stream(
        "POST", f"{slow_url}/v1/chat/completions", timeout=120,
        json={
            "model": "default", "messages": [{"role": "user", "content": "On and on."}], "stream": True,
            "ignore_eos": True, "max_tokens": 1000,
        },
    ) as answer:  # fmt: skip
        piece = next(text for text in answer.iter_lines() if text.startswith("data:"))  # before it are comments
        row = line(page, json.loads(piece.removeprefix("data:"))["id"])
        row.evaluate("node => { node.marked = true; }")
        before = int(row.get_attribute("data-completion-tokens"))
        wait_until(lambda: int(row.get_attribute("data-completion-tokens")) > before, "it does not grow")
        assert page.evaluate("document.querySelector('#requests .axis svg.main-svg').marked"), "the axis was made anew"
        assert row.evaluate("node => node.marked"), "the row was made anew"


def test_who_waited_for_whom(person, serve_page, engine_pool):
    """One at a time, so that the second waits for the first."""
    engine = engine_pool.start(EngineConfig(max_num_seqs=1))
    with serve_page(engine) as url:
        page = open_requests(person(url).arrive())
        ids: dict[str, str] = {}
        first = threading.Thread(target=lambda: ids.update(first=ask(url, "The first.", 400)))
        first.start()
        page.locator("#requests tr.running").wait_for()
        second = threading.Thread(target=lambda: ids.update(second=ask(url, "The second.")))
        second.start()
        for thread in (first, second):
            thread.join()
        line(page, ids["second"]).locator(".waits").focus()
        page.keyboard.press("Enter")
        said = page.locator("#requests .meanwhile", has_text="Meanwhile ran")
        said.wait_for()
        assert f"…{ids['first'][-4:]} (" in said.inner_text()
        waits = httpx.get(f"{url}/v1/requests/{ids['second']}").json()["waits"]
        assert ids["first"] in {row["id"] for wait in waits for row in wait["meanwhile"]}
        page.goto("about:blank")  # it must not see its server end


def test_filters_and_the_table_as_csv(person, workbench_url):
    me = person(workbench_url).arrive()
    me.ask("What can you do?")
    id = ask(workbench_url, "Saved as CSV?")
    page = open_requests(me)
    line(page, id).wait_for()
    page.get_by_label("Source", exact=True).select_option("chat")
    wait_until(lambda: not line(page, id).count(), "the filter lets it through")
    page.get_by_label("Source", exact=True).select_option("api")
    line(page, id).wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as CSV").click()
    with open(download.value.path(), newline="", encoding="utf-8") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert {row["source"] for row in rows.values()} == {"api"}
    told = httpx.get(f"{workbench_url}/v1/requests/{id}").json()
    assert {name: float(rows[id][name]) for name in NUMBERS} == {name: told[name] for name in NUMBERS}


def test_a_visitor_of_a_space_sees_only_their_own(person, serve_page, demo_engine):
    with serve_page(demo_engine, open_access=True) as url:
        mine, theirs = person(url).arrive(), person(url).arrive()
        for who, text in ((mine, "I am the one."), (theirs, "I am the other.")):
            who.ask(text)
            open_requests(who)
            who.page.locator("#requests tbody tr").first.wait_for()
        id = ask(url, "A program.")
        mine.page.locator("#requests tbody tr .waits").first.click()
        mine.page.locator("#requests .meanwhile", has_text=".").wait_for()
        keys = [
            [row.get_attribute("data-key") for row in who.page.locator("#requests tbody tr").all()]
            for who in (mine, theirs)
        ]
        assert [len(one) for one in keys] == [1, 1] and keys[0] != keys[1]
        assert id not in keys[0] + keys[1] and demo_engine.requests.has(id)
        for who in (mine, theirs):
            who.page.goto("about:blank")  # it must not see its server end


def test_a_zoom_survives_what_comes_after(person, workbench_url):
    page = open_requests(person(workbench_url).arrive())
    ask(workbench_url, "To be looked at closely.", 40)
    page.locator("#requests .axis .bars").first.wait_for(state="attached")
    page.locator("#requests .axis .nsewdrag").first.wait_for(state="attached")
    box = page.locator("#requests .axis .nsewdrag").first.bounding_box()
    before = axis_range(page)
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    wait_until(lambda: axis_range(page) != before, "the axis was not zoomed")
    zoomed = axis_range(page)
    id = ask(workbench_url, "And another.")
    line(page, id).wait_for()
    wait_until(lambda: id in page.evaluate(SHOWN), "the axis does not show the other one")
    assert axis_range(page) == zoomed


SHOWN = "document.querySelector('#requests .axis').layout.yaxis.categoryarray"


def axis_range(page: Any) -> list[str]:
    return list(page.evaluate("document.querySelector('#requests .axis')._fullLayout.xaxis.range.map(String)"))


@pytest.mark.parametrize("name", list(CONTEXTS))
def test_axe_and_the_width(person, workbench_url, name):
    me = person(workbench_url, **CONTEXTS[name]).arrive()
    id = ask(workbench_url, "For axe.")
    page = open_requests(me)
    line(page, id).wait_for()
    page.locator("#requests .axis .bars").first.wait_for(state="attached")
    line(page, id).locator(".waits").click()
    page.locator("#requests .meanwhile", has_text=".").wait_for()
    me.at_rest()
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("#requests").evaluate("node => node.scrollWidth <= node.clientWidth")
