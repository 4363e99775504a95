"""The Compare tab: columns with settings of their own, numbers, differences, votes, stop, keep, sets of prompts."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect

from tests.pages import PHONE, Person
from tests.pictures import data_url
from tests.waiting import wait_until

QUESTION = "What is in this image?"


class Compare:
    """A person at the Compare tab."""

    def __init__(self, me: Person, name: str = "Compare") -> None:
        self.me = me
        self.page = me.arrive().page
        self.page.get_by_role("tab", name=name).click()
        self.sides = self.page.locator("#compare .side")
        self.sides.nth(1).wait_for()
        self.go = self.page.locator("#compare button.primary")

    def add(self, path: Path) -> None:
        self.page.locator("#compare .composer input[type=file]").set_input_files(path)
        self.page.locator("#compare .thumb").wait_for()

    def set(self, column: int, label: str, value: str) -> None:
        side = self.sides.nth(column)
        if side.locator("details.setup:not([open])").count():
            side.locator(".setup summary").click()
        side.get_by_label(label, exact=True).fill(value)

    def write(self, text: str) -> None:
        self.page.locator("#compare .composer .text").fill(text)

    def run(self, text: str) -> None:
        """Ask, and wait until all columns have ended."""
        self.write(text)
        self.go.click()
        self.ended()

    def ended(self) -> None:
        expect(self.page.locator("#compare .running")).to_have_count(0, timeout=60_000)

    def answer(self, column: int) -> Any:
        return self.sides.nth(column).locator(".parts .answer")

    def note(self, column: int) -> Any:
        return self.sides.nth(column).locator(".parts .note")

    def numbers(self, column: int) -> dict[str, str]:
        """What a column shows under its answer, by its words."""
        rows = self.sides.nth(column).locator(".numbers dl > div")
        return {row.locator("dt").inner_text(): row.locator("dd").inner_text() for row in rows.all()}


def by_api(url: str, picture: Path, max_pixels: int | None = None) -> Any:
    image: dict[str, Any] = {"type": "image_url", "image_url": {"url": data_url(picture.read_bytes())}}
    if max_pixels:
        image["max_pixels"] = max_pixels
    messages = [{"role": "user", "content": [image, {"type": "text", "text": QUESTION}]}]
    body = {"model": "default", "messages": messages, "temperature": 0}
    reply = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_the_tab_has_a_heading_as_the_others_have(person: Any, workbench_url: str) -> None:
    at = Compare(person(workbench_url))
    tab = at.page.locator("#compare")
    expect(tab.get_by_role("heading", level=3)).to_have_text("Compare")
    expect(tab.get_by_role("heading", level=4)).to_have_text(["A", "B"])
    words = tab.get_by_text("Two to four columns answer the same message")
    expect(words).to_be_visible()
    at.run("Hello!")
    expect(words).to_be_hidden()
    expect(tab.get_by_role("heading", name="Compare", exact=True)).to_be_visible()


def test_two_sizes_of_a_picture_and_one_wrong_column(person: Any, workbench_url: str, drawn: Any) -> None:
    at, picture = Compare(person(workbench_url)), drawn("red", "circle")
    at.add(picture)
    for column in range(2):
        at.set(column, "Temperature", "0")
        at.sides.nth(column).get_by_label("Use the cache").uncheck()
    at.page.get_by_role("button", name="Add a column").click()
    at.set(1, "Max pixels", "3136")
    at.set(2, "Temperature", "hot")
    at.run(QUESTION)
    expect(at.note(2)).to_have_text("Temperature must be a number, 0 or more; “hot” is not.")
    assert at.sides.nth(2).get_by_role("button", name="Go on in the chat").is_hidden()
    api = [by_api(workbench_url, picture), by_api(workbench_url, picture, 3136)]
    assert api[0]["usage"]["prompt_tokens"] != api[1]["usage"]["prompt_tokens"], "the sizes make no difference"
    for column, reply in enumerate(api):
        usage, said = reply["usage"], reply["choices"][0]["message"]["content"]
        expect(at.answer(column)).to_have_text(said.strip())
        shown = at.numbers(column)
        assert (shown["Tokens in"], shown["From cache"]) == (str(usage["prompt_tokens"]), "0")
        assert shown["Tokens out"] == str(usage["completion_tokens"])
        summary = at.sides.nth(column).locator(".receipt > summary")
        expect(summary).to_contain_text(f"{usage['media'][0]['tokens']} token")
        expect(summary).not_to_contain_text("earlier")
        summary.click()
        at.sides.nth(column).locator(".receipt .frames img").wait_for()


def test_every_number_is_that_of_the_request_on_the_api(person: Any, workbench_url: str, drawn: Any) -> None:
    """Of the very requests that the columns sent, as GET /v1/requests/ID has them. All stand at the same height."""
    at = Compare(person(workbench_url))
    at.add(drawn("green", "triangle"))
    at.set(1, "System prompt", "Answer in one word.")
    at.run(QUESTION)
    listed = httpx.get(f"{workbench_url}/v1/requests", params={"source": "compare", "limit": 2}, timeout=60).json()
    by_tokens = {
        one["usage"]["prompt_tokens"]: one
        for one in (httpx.get(f"{workbench_url}/v1/requests/{row['id']}", timeout=60).json() for row in listed["data"])
    }
    assert len(by_tokens) == 2, "the two cannot be told apart"
    words = "([ms, tps]) => [window.workbenchWords.milliseconds(ms), window.workbenchWords.figures(tps)]"
    for column in range(2):
        shown = at.numbers(column)
        record = by_tokens[int(shown["Tokens in"])]
        usage, timing = record["usage"], record["timing"]
        assert record["total_ms"] == pytest.approx(timing["total_ms"], abs=0.002), "one name, two numbers"
        assert shown["From cache"] == str(usage["cached_tokens"])
        assert shown["Tokens out"] == str(usage["completion_tokens"])
        rate_per_s = 1000 * (timing["completion_tokens"] - 1) / timing["decode_ms"]
        first, rate = at.page.evaluate(words, [timing["ttft_ms"], rate_per_s])
        whole, _ = at.page.evaluate(words, [timing["total_ms"], 0])
        assert (shown["First token"], shown["Whole"], shown["Tokens/s"]) == (first, whole, rate)
    tops = [at.sides.nth(column).locator(".numbers").bounding_box()["y"] for column in range(2)]
    assert tops[0] == tops[1]


def test_differences_votes_and_a_reload(person: Any, workbench_url: str, model_says: Any) -> None:
    at = Compare(person(workbench_url))
    at.set(0, "System prompt", "Be <b>kind</b>.")
    at.set(1, "Max tokens", "2")
    model_says("It is **red**, ![far](https://far.example/x.png) and <img src=x onerror=alert(1)> round as a ball")
    at.run("Say it")
    marks = at.page.locator("#compare mark")
    marks.first.wait_for()
    assert at.answer(0).locator("strong").count() == 1 and at.page.locator("#compare .parts img").count() == 0
    at.page.get_by_label("Mark differences").uncheck()
    expect(marks).to_have_count(0)
    better = at.sides.nth(0).get_by_role("button", name="Better")
    better.click()
    expect(at.sides.nth(0).locator(".votes")).to_have_text("1")
    at.sides.nth(1).get_by_role("button", name="Better").click()
    expect(at.sides.nth(0).locator(".votes")).to_have_text("")
    expect(at.sides.nth(1).locator(".votes")).to_have_text("1")
    at.page.reload()
    at.sides.nth(1).wait_for()
    expect(at.sides.nth(0).locator(".setup summary")).to_contain_text("System prompt")
    expect(at.sides.nth(1).locator(".setup summary")).to_contain_text("Max tokens 2")
    expect(at.sides.nth(1).locator(".votes")).to_have_text("1")
    expect(at.page.locator("#compare .composer .text")).to_have_value("Say it")
    assert not at.page.get_by_label("Mark differences").is_checked()
    at.set(1, "Max tokens", "3")
    expect(at.sides.nth(1).locator(".votes")).to_have_text("")  # votes were for other settings


def test_stop_ends_all_columns(person: Any, slow_url: str, slow_engine: Any) -> None:
    at = Compare(person(slow_url))
    at.write("Tell me all of it.")
    at.go.click()
    for column in range(2):
        at.answer(column).wait_for()
    wait_until(lambda: len(slow_engine.snapshot().running) == 2, "the columns do not run together")
    expect(at.go).to_have_text("Stop")
    at.go.click()
    at.ended()
    for column in range(2):
        expect(at.note(column)).to_contain_text("stopped")
    wait_until(lambda: not slow_engine.snapshot().running, "it goes on")
    expect(at.go).to_have_text("Compare")


def test_one_column_is_stopped_and_the_other_goes_on(person: Any, slow_url: str, slow_engine: Any) -> None:
    at = Compare(person(slow_url))
    at.write("Tell me all of it.")
    at.go.click()
    at.answer(1).wait_for()
    at.sides.nth(0).get_by_role("button", name="Stop column A").click()
    expect(at.note(0)).to_contain_text("stopped")
    expect(at.sides.nth(0).get_by_role("button", name="Stop column A")).to_be_hidden()
    wait_until(lambda: len(slow_engine.snapshot().running) == 1, "both have ended, or none")
    before = at.answer(1).inner_text()
    expect(at.answer(1)).not_to_have_text(before)
    at.go.click()
    at.ended()
    wait_until(lambda: not slow_engine.snapshot().running, "it goes on")


def test_who_leaves_ends_the_columns(slow_url: str, slow_engine: Any, browser: Any) -> None:
    me = Person(browser, slow_url)
    at = Compare(me)
    at.write("Tell me all of it.")
    at.go.click()
    at.answer(1).wait_for()
    me.leave()
    wait_until(lambda: not slow_engine.snapshot().running, "it goes on")


def test_one_answer_is_kept_and_the_chat_goes_on(person: Any, workbench_url: str, drawn: Any) -> None:
    at = Compare(person(workbench_url))
    at.add(drawn("blue", "square"))
    at.set(1, "Temperature", "0")
    at.set(1, "Max pixels", "3136")
    at.run(QUESTION)
    said = at.answer(1).inner_text()
    at.sides.nth(1).get_by_role("button", name="Go on in the chat").click()
    expect(at.me.answers).to_have_count(1)
    assert at.me.answer == said
    expect(at.page.locator("#chat .medium img")).to_be_visible()
    expect(at.page.get_by_label("Temperature", exact=True).first).to_have_value("0")
    at.me.ask("What color is the square?")
    assert at.me.answers.count() == 2


def test_a_set_of_prompts_and_its_table(person: Any, workbench_url: str, drawn: Any) -> None:
    at = Compare(person(workbench_url))
    at.add(drawn("red", "circle"))
    for column in range(2):
        at.set(column, "Temperature", "0")
    at.page.locator("#compare .set > summary").click()
    at.page.get_by_label("Prompts", exact=True).fill("What color is the circle?\n\nHow many shapes are there?")
    at.page.get_by_role("button", name="Run over the columns").click()
    rows = at.page.locator("#compare .results tbody tr")
    expect(at.page.locator("#compare .status")).to_have_text("2 of 2 prompts", timeout=60_000)
    at.ended()
    expect(rows).to_have_count(2)
    rows.nth(0).get_by_role("button", name="Better").nth(1).click()
    expect(at.sides.nth(1).locator(".votes")).to_have_text("1")
    with at.page.expect_download() as download:
        at.page.locator("#compare").get_by_role("button", name="Export CSV").click()
    first, second = csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8")))
    assert (first["prompt"], first["vote"], second["vote"]) == ("What color is the circle?", "B", "")
    assert "red" in first["A_answer"].lower() and first["A_answer"] == first["B_answer"]
    assert int(float(first["A_prompt_tokens"])) > 0 and float(first["B_total_ms"]) > 0
    file = {"name": "p.csv", "mimeType": "text/csv", "buffer": b"a,b\n1,2\n"}
    at.page.locator("#compare .set input[type=file]").set_input_files(file)
    expect(at.page.locator("#compare .error")).to_have_text("The table has no column named prompt.")


def test_an_opened_request_is_asked_again_with_one_thing_changed(person: Any, workbench_url: str, drawn: Any) -> None:
    said = by_api(workbench_url, drawn("yellow", "circle"))["choices"][0]["message"]["content"]
    me = person(workbench_url).arrive()
    page = me.page
    page.get_by_role("tab", name="Requests").click()
    page.locator("#requests .open").first.click()
    page.get_by_role("button", name="Ask again in Compare").click()
    expect(page.locator("#compare .again")).to_contain_text("1 message · 1 picture, clip or sound")
    expect(page.locator("#compare .again")).to_contain_text(QUESTION)
    sides = page.locator("#compare .side")
    expect(sides.nth(0).get_by_label("Temperature")).to_have_value("0")
    sides.nth(1).get_by_label("Max pixels").fill("3136")
    page.locator("#compare button.primary").click()
    expect(sides.nth(0).locator(".parts .answer")).to_have_text(said.strip(), timeout=60_000)
    expect(page.locator("#compare .running")).to_have_count(0, timeout=60_000)
    seen = [sides.nth(at).locator(".receipt > summary").inner_text().partition(" seen")[0] for at in range(2)]
    assert seen[0] != seen[1], "the changed size makes no difference"
    assert sides.nth(0).get_by_role("button", name="Go on in the chat").is_hidden()
    page.get_by_role("button", name="Write a message of your own").click()
    expect(page.locator("#compare .composer .text")).to_be_visible()


def test_in_german_on_a_phone_the_columns_are_swiped(person: Any, workbench_url: str) -> None:
    at = Compare(person(workbench_url, locale="de", **PHONE), "Vergleich")
    expect(at.go).to_have_text("Vergleich")
    at.run("Hallo!")
    assert at.numbers(0)["Token ein"]
    assert at.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is scrolled sideways"
    list_ = at.page.locator("#compare .sides")
    assert list_.evaluate("node => node.scrollWidth > node.clientWidth"), "the columns are not beside each other"
    at.sides.nth(1).scroll_into_view_if_needed()
    expect(at.sides.nth(1)).to_be_in_viewport(ratio=0.5)


def test_nobody_reads_a_comparison_whose_name_they_do_not_know(workbench_url: str) -> None:
    reply = httpx.get(f"{workbench_url}/workbench/compare/{'x' * 32}")
    assert reply.status_code == 404 and "not here any more" in json.dumps(reply.json())


@pytest.mark.parametrize("text", ["", "  "])
def test_nothing_to_ask_is_said(person: Any, workbench_url: str, text: str) -> None:
    at = Compare(person(workbench_url))
    at.run(text)
    expect(at.page.locator("#compare .error")).to_contain_text("There is nothing to ask yet")
