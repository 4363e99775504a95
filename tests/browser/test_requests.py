"""The Requests tab in a browser: requests appear as they run, with the API's numbers, and everybody sees their own."""

from __future__ import annotations

import csv
import json
import re
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from engine.config import EngineConfig
from engine.core import Engine
from engine.request_log.archive import unpacked
from engine.request_log.form import summary_json
from tests.browser.test_frame import serious_in_both
from tests.pages import DESKTOP, PHONE
from tests.pictures import picture_url
from tests.waiting import wait_until
from workbench.requests import live

PLANTED = "sk-plantedplantedplantedplanted"
DEADLINE_S = 60.0
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


class Pace:
    """Lets the answers of an engine go on by so many tokens, however fast the machine is (engine.core: observer)."""

    def __init__(self) -> None:
        self._tokens = threading.Semaphore(0)
        self.is_free = True

    def __call__(self, loaded: Any, choice: Any, token: Any) -> None:
        if not self.is_free:
            self._tokens.acquire(timeout=DEADLINE_S)

    def give(self, num_tokens: int) -> None:
        self._tokens.release(num_tokens)

    def free(self) -> None:
        """From now on as fast as it goes."""
        self.is_free = True
        self.give(1)  # to the one that waits


@contextmanager
def paced(serve_page: Any, **config: Any) -> Iterator[tuple[str, Pace]]:
    """The workbench on an engine of its own, and its pace."""
    pace = Pace()
    engine = Engine(EngineConfig(**config), pace)
    engine.start()
    try:
        with serve_page(engine) as url:
            yield url, pace
    finally:
        pace.free()
        engine.stop()


def test_a_request_is_seen_while_it_runs_and_grows_without_flicker(person, serve_page):
    with paced(serve_page) as (url, pace):
        page = open_requests(person(url).arrive())
        ask(url, "Something for the axis.")
        page.locator("#requests .axis .bars").first.wait_for(state="attached")
        page.evaluate("document.querySelector('#requests .axis svg.main-svg').marked = true")
        pace.is_free = False
        asking = threading.Thread(target=lambda: ask(url, "On and on.", 60))
        asking.start()
        pace.give(8)
        running = page.locator("#requests tr.running")
        running.wait_for()
        row = line(page, running.get_attribute("data-key"))
        wait_until(lambda: num_tokens(row) > 0, "nothing of it is shown")
        row.evaluate("node => { node.marked = true; }")
        before = num_tokens(row)
        pace.give(8)
        wait_until(lambda: num_tokens(row) > before, "it does not grow")
        assert num_tokens(row) < 60 and "running" in row.get_attribute("class")
        pace.free()
        asking.join()
        wait_until(lambda: "finished" in row.inner_text(), "its end is not shown")
        assert page.evaluate("document.querySelector('#requests .axis svg.main-svg').marked"), "a new axis"
        assert row.evaluate("node => node.marked"), "a new row"
        page.goto("about:blank")  # it must not see its server end


def num_tokens(row: Any) -> int:
    return int(row.get_attribute("data-completion-tokens"))


def open_one(page: Any, id: str) -> Any:
    line(page, id).locator(".open").click()
    opened = page.locator(f'#requests .opened[data-key="{id}"]')
    opened.wait_for()
    return opened


def test_one_request_opened(person, workbench_url):
    """All of it is there: the numbers of the API, the picture, tokens with others beside them. It is copied, and
    downloaded as a zip that is asked again."""
    me = person(workbench_url).arrive()
    me.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = open_requests(me)
    with openai.OpenAI(base_url=f"{workbench_url}/v1", api_key="none", max_retries=0, timeout=120) as client:
        picture: Any = {"type": "image_url", "image_url": {"url": picture_url(), "max_pixels": 3136}}
        question: Any = {"type": "text", "text": f"What is <b>it</b>? {PLANTED}"}
        answer = client.chat.completions.create(
            model="default", max_tokens=8, temperature=0, logprobs=True, top_logprobs=3,
            messages=[{"role": "user", "content": [picture, question]}],
        )  # fmt: skip
    told = httpx.get(f"{workbench_url}/v1/requests/{answer.id}").json()
    opened = open_one(page, answer.id)
    shown_ms = [float(row.get_attribute("data-ms")) for row in opened.locator(".waterfall li").all()]
    assert shown_ms == [part["ms"] for part in told["first_token"]]
    assert sum(shown_ms) == pytest.approx(told["ttft_ms"], rel=0.02)
    assert "What is <b>it</b>? [secret]" in opened.inner_text() and not opened.locator("b b").count()
    assert opened.locator(".medium img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    assert opened.locator(".token-text").inner_text() == "".join(token["text"] for token in told["answer"][0]["tokens"])
    asked = dict(zip(*(opened.locator(f".facts {tag}").all_inner_texts() for tag in ("dt", "dd")), strict=True))
    assert (asked["max_tokens"], asked["max_pixels"]) == ("8", "3136")
    opened.locator(".token").first.hover()
    page.locator("#token-tip li").nth(2).wait_for()
    opened.locator(".receipt summary").click()
    opened.locator(".receipt img").wait_for()
    reused = opened.locator(".segment.reused, .segment.computed")
    assert reused.count() and str(told["cached_tokens"]) in opened.locator(".bar").get_attribute("aria-label")
    opened.get_by_label("Copy as", exact=True).select_option("curl")
    opened.get_by_role("button", name="Copy", exact=True).click()
    opened.locator(".said", has_text="Copied").wait_for()
    text = page.evaluate("navigator.clipboard.readText()")
    assert text.startswith(f'curl -sS "${{OPENAI_BASE_URL:-{workbench_url}/v1}}/chat/completions"')
    with page.expect_download() as download:
        opened.get_by_role("button", name="Download as zip").click()
    path = Path(download.value.path())
    with zipfile.ZipFile(path) as archive:
        kept = "".join(archive.read(name).decode("latin-1") for name in archive.namelist())
    assert not [place for place in (text, kept, page.content(), json.dumps(told)) if PLANTED in place]
    assert unpacked(path).answer[0]["text"] == answer.choices[0].message.content
    opened.get_by_role("button", name="Close").click()
    opened.wait_for(state="hidden")


def test_who_waited_for_whom(person, serve_page):
    """One at a time, so that the second waits for the first."""
    with paced(serve_page, max_num_seqs=1) as (url, pace):
        page = open_requests(person(url).arrive())
        ids: dict[str, str] = {}
        pace.is_free = False
        first = threading.Thread(target=lambda: ids.update(first=ask(url, "The first.", 40)))
        first.start()
        pace.give(8)
        page.locator("#requests tr.running").wait_for()
        second = threading.Thread(target=lambda: ids.update(second=ask(url, "The second.")))
        second.start()
        page.locator("#requests tr.waiting").wait_for()
        pace.free()
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
        asked: list[str] = []
        mine.page.on("request", lambda request: asked.append(request.url))
        for who, text in ((mine, "I am the one."), (theirs, "I am the other.")):
            who.ask(text)
            open_requests(who)
            who.page.locator("#requests tbody tr").first.wait_for()
        id = ask(url, "A program.")
        mine.page.locator("#requests tbody tr .waits").first.click()
        mine.page.locator("#requests .meanwhile", has_text=".").wait_for()
        other = theirs.page.locator("#requests tbody tr").get_attribute("data-key")
        live = next(httpx.URL(address) for address in asked if httpx.URL(address).path.endswith("/requests/live"))
        own = mine.page.locator("#requests tbody tr").get_attribute("data-key")
        for key, status in ((own, 200), (other, 404)):
            reply = httpx.get(f"{url}/workbench/requests/zip", params={"of": live.params["of"], "id": key})
            assert reply.status_code == status, "a visitor downloads what is theirs, and nothing else"
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


def test_requests_of_before_are_no_empty_lines(person, workbench_url, monkeypatch):
    """They are counted below the axis, and seen on it when that is pressed."""
    old, new = ask(workbench_url, "An hour ago."), ask(workbench_url, "Now.")

    def told(log: Any, record: Any) -> Any:
        summary = summary_json(log, record)
        fetched = {"stage": "fetch", "start_ms": 0.0, "ms": 1.0}
        early = {"created": summary["created"] - 3600, "stages": [fetched, *summary["stages"]]}
        return summary | (early if record.id == old else {})

    monkeypatch.setattr(live, "summary_json", told)
    page = open_requests(person(workbench_url).arrive())
    line(page, old).wait_for()
    page.locator("#requests .axis .bars").first.wait_for(state="attached")
    assert new in page.evaluate(SHOWN) and old not in page.evaluate(SHOWN)
    assert page.evaluate(EMPTY_LINES) == []
    fetched = page.locator("#requests .legend .entry.fetch")
    assert fetched.is_hidden(), "the legend names a stage of a request that is not on the axis"
    page.get_by_role("button", name=re.compile(r"Show \d+ earlier requests?")).click()
    wait_until(lambda: old in page.evaluate(SHOWN), "it is not shown")
    assert fetched.is_visible()
    assert page.evaluate(EMPTY_LINES) == []
    page.get_by_role("button", name="Only the last two minutes").click()
    wait_until(lambda: old not in page.evaluate(SHOWN), "the window stays as it was")
    page.get_by_label("Axis", exact=True).select_option("1")
    wait_until(lambda: old in page.evaluate(SHOWN), "from the start of each, all of them have bars")
    assert page.locator("#requests .earlier").is_hidden()


BUTTONS_AND_LABELS = """axis => {
  const box = axis.getBoundingClientRect(), bottom = (node) => node.getBoundingClientRect().bottom;
  const rows = axis.querySelector('.nsewdrag').getBoundingClientRect();
  const buttons = [...axis.querySelectorAll('.modebar-btn')], names = [...axis.querySelectorAll('.ytick text')];
  return [axis._fullLayout.width === axis.clientWidth, buttons.every((one) => bottom(one) <= rows.top + 1),
    names.filter((one) => one.getBoundingClientRect().left < box.left).length]; }"""
EMPTY_LINES = """(() => {
  const axis = document.querySelector('#requests .axis'), [from, to] = axis.layout.xaxis.range;
  const hasBar = (id) => axis.data.some((one) => one.y.some((y, at) =>
    y === id && one.base[at] < to && one.base[at] + one.x[at] > from));
  return axis.layout.yaxis.categoryarray.filter((id) => !hasBar(id)); })()"""
SHOWN = "document.querySelector('#requests .axis').layout.yaxis.categoryarray"


def axis_range(page: Any) -> list[str]:
    return list(page.evaluate("document.querySelector('#requests .axis')._fullLayout.xaxis.range.map(String)"))


@pytest.mark.parametrize("context", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_and_the_width(person, workbench_url, context):
    me = person(workbench_url, **context, color_scheme="light").arrive()
    id = ask(workbench_url, "For axe.")
    page = open_requests(me)
    line(page, id).wait_for()
    page.locator("#requests .axis .bars").first.wait_for(state="attached")
    line(page, id).locator(".waits").click()
    page.locator("#requests .meanwhile", has_text=".").wait_for()
    open_one(page, id)
    me.at_rest()
    assert serious_in_both(me) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("#requests").evaluate("node => node.scrollWidth <= node.clientWidth")
    wide, above, cut = page.locator("#requests .axis").evaluate(BUTTONS_AND_LABELS)
    assert wide, "the axis is not as wide as its card"
    assert above, "buttons lie over the rows"
    assert not cut, "a row's name is cut off"
