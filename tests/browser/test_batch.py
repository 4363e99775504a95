"""The Batch tab: sixty drawings dropped at once are answered right, in a table that survives a pause and a reload."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
from playwright.sync_api import expect

from tests.browser.test_frame import serious
from tests.browser.test_requests import open_requests
from tests.commands import ROOT
from tests.pages import LOOKS, Person
from tests.pictures import data_url
from tests.waiting import wait_until

PROMPT = "What color is the shape?"
LEAST_RIGHT = 50
"""Colours of the 60 drawings that the demo model names; by chance it would be 12."""

NUMBERS = ("prompt_tokens", "completion_tokens", "media_tokens")
DROP = """files => {
  const transfer = new DataTransfer();
  for (const [name, data] of files)
    transfer.items.add(new File([Uint8Array.from(atob(data), c => c.charCodeAt(0))], name, {type: "image/png"}));
  for (const event of ["dragenter", "dragover", "drop"])
    document.body.dispatchEvent(new DragEvent(event, {dataTransfer: transfer, bubbles: true, cancelable: true}));
}"""


class Batch:
    """A person at the Batch tab."""

    def __init__(self, me: Person, name: str = "Batch") -> None:
        self.me = me
        self.page = me.arrive().page
        self.open(name)

    def open(self, name: str = "Batch") -> None:
        self.page.get_by_role("tab", name=name).click()
        expect(self.page.locator("#batch h3").first).to_be_visible()

    def drop(self, files: Sequence[Path], sent: str) -> None:
        """Let them fall onto the window, and wait until the page says that they are sent."""
        self.page.evaluate(DROP, [[file.name, base64.b64encode(file.read_bytes()).decode()] for file in files])
        expect(self.page.locator("#batch .files .sent")).to_contain_text(f"{sent} ·", timeout=120_000)

    def start(self, prompt: str = PROMPT) -> None:
        self.page.locator("#batch").get_by_label("Prompt", exact=True).fill(prompt)
        self.page.get_by_role("button", name="Start the run").click()
        expect(self.page.locator("#batch .head-of-run .stage")).to_be_visible()

    def form(self, name: str) -> None:
        self.page.locator("#batch .forms").get_by_text(name, exact=True).click()

    def press(self, name: str) -> None:
        self.page.locator("#batch").get_by_role("button", name=name, exact=True).click()

    def comes_to(self, state: str) -> None:
        expect(self.page.locator("#batch .head-of-run .stage")).to_have_text(state, timeout=300_000)

    def says(self, words: str) -> None:
        expect(self.page.locator("#batch .progress-words")).to_contain_text(words, timeout=120_000)

    def rows(self) -> dict[str, str]:
        """The answers in the table, by name."""
        found = self.page.locator("#batch tbody tr").evaluate_all(
            "all => all.map(row => [row.querySelector('.open').textContent,"
            " row.querySelector('.said-here span').textContent])"
        )
        return {str(name): str(answer) for name, answer in found}

    def export(self, name: str = "CSV") -> Any:
        with self.page.expect_download() as download:
            self.page.locator("#batch .exports").get_by_text(name, exact=True).click()
        return pd.read_csv(io.BytesIO(Path(download.value.path()).read_bytes()))


@pytest.fixture
def at(person: Any, serve_page: Any, demo_engine: Any) -> Any:
    """Somebody at the tab of a server that has no runs yet."""
    with serve_page(demo_engine) as url:
        batch = Batch(person(url))
        yield batch
        batch.page.goto("about:blank")  # it must not see its server end


def test_sixty_drawings_dropped_at_once(at: Batch, drawings: Path, tmp_path: Path) -> None:
    files = sorted(drawings.glob("*.png"))
    at.drop(files, "60 files")
    at.start()
    at.comes_to("done")
    expect(at.page.locator("#batch tbody tr")).to_have_count(60)
    answers = at.rows()
    assert list(answers) == [file.name for file in files]
    right = [name.split("-")[0] in answer for name, answer in answers.items()]
    assert sum(right) >= LEAST_RIGHT, answers
    frame = at.export()
    assert dict(zip(frame["key"], frame["answer"], strict=True)) == answers
    assert "batch" in {one["source"] for one in httpx.get(f"{at.me.url}/v1/requests").json()["data"]}
    # The numbers are those of the command,
    output = tmp_path / "out.csv"
    command = [sys.executable, "-m", "engine", "run", str(drawings), "--prompt", PROMPT, "--output", str(output)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    told = pd.read_csv(output)
    for name in ("key", "answer", "finish_reason", *NUMBERS):
        assert list(frame[name]) == list(told[name]), name
    # and those of the API.
    for file in files[::20]:
        part = {"type": "image_url", "image_url": {"url": data_url(file.read_bytes())}}
        content = [part, {"type": "text", "text": PROMPT}]
        body = {"model": "default", "temperature": 0, "messages": [{"role": "user", "content": content}]}
        reply = httpx.post(f"{at.me.url}/v1/chat/completions", json=body, timeout=60).json()
        row = frame[frame["key"] == file.name].iloc[0]
        assert reply["choices"][0]["message"]["content"] == row["answer"]
        assert [reply["usage"][name] for name in NUMBERS[:2]] == [row[name] for name in NUMBERS[:2]]


def test_a_pause_a_reload_and_the_rest(at: Batch, drawings: Path, gate: Any) -> None:
    gate.allowed = 20
    at.drop(sorted(drawings.glob("*.png")), "60 files")
    at.start()
    at.says("20 of 60 rows")
    at.page.reload()  # in the middle: it is found again, and goes on
    at.open()
    at.comes_to("running")
    at.says("20 of 60 rows")
    gate.allowed = 24
    at.says("24 of 60 rows")
    wait_until(lambda: gate.asked > 24, "the next ones are at the gate")
    begun = gate.asked
    at.press("Pause")
    at.comes_to("pausing: the rows that were begun are being finished")
    gate.open()
    at.comes_to("paused")
    at.says(f"{begun} of 60 rows")
    at.page.locator("#batch .filter", has_text="Waiting").click()
    expect(at.page.locator("#batch tbody tr")).to_have_count(60 - begun)
    at.page.reload()
    at.open()
    at.comes_to("paused")
    at.press("Go on")
    at.comes_to("done")
    at.says("60 of 60 rows")
    expect(at.page.locator("#batch tbody tr")).to_have_count(60)
    assert gate.asked == 60, "no row was asked twice"


def test_stop_sort_filter_search_and_retry(at: Batch, drawings: Path, tmp_path: Path, gate: Any) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    gate.allowed = 3
    at.drop([*sorted(drawings.glob("*-96x96.png"))[:9], tmp_path / "empty.png"], "10 files")
    at.start()
    at.says("3 of 10 rows")
    at.press("Stop")
    at.comes_to("stopped")
    gate.open()
    at.press("Go on")
    at.comes_to("done")
    at.says("10 of 10 rows · 1 failed")
    table = at.page.locator("#batch table")
    table.get_by_role("button", name="Name").click()
    table.get_by_role("button", name="Name").click()
    expect(at.page.locator("#batch th[aria-sort=descending]")).to_have_text("Name")
    wait_until(lambda: list(at.rows()) == sorted(at.rows(), reverse=True), "it is not sorted")
    at.page.locator("#batch .filter", has_text="Failed").click()
    expect(at.page.locator("#batch tbody tr")).to_have_count(1)
    assert at.rows() == {"empty.png": "the file is empty"}
    asked = gate.asked
    at.press("Ask the failed ones again")
    wait_until(lambda: gate.asked == asked + 1, "only the failed one is asked again")
    at.comes_to("done")
    at.page.locator("#batch .filter", has_text="All").click()
    at.page.get_by_label("Search names and answers").fill("blue-circle")
    expect(at.page.locator("#batch tbody tr")).to_have_count(1)
    at.press("Delete")
    at.press("Delete it with its answers?")
    expect(at.page.locator("#batch .making")).to_be_visible()
    expect(at.page.locator("#batch .which")).to_be_hidden()


def test_a_row_is_opened_edited_and_had_back(at: Batch, drawings: Path) -> None:
    at.drop(sorted(drawings.glob("*-96x96.png"))[:3], "3 files")
    at.start()
    at.comes_to("done")
    said = list(at.rows().values())
    at.page.locator("#batch tbody tr .open").first.click()
    dialog = at.page.locator("#batch .row-dialog[open]")
    expect(dialog.locator(".facts")).to_contain_text("96 × 96")
    expect(dialog.locator(".large")).to_have_js_property("naturalWidth", 96)
    dialog.get_by_label("Answer", exact=True).fill("<b>mine</b>")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.locator(".was")).to_have_text(f"Edited. The model said: {said[0]}")
    dialog.get_by_role("button", name="Next row").click()
    expect(dialog.get_by_label("Answer", exact=True)).to_have_value(said[1])
    at.page.keyboard.press("Escape")
    expect(at.page.locator("#batch tbody tr").first.locator(".said-here")).to_have_text("<b>mine</b>edited")
    frame = at.export()
    assert list(frame["answer"]) == ["<b>mine</b>", *said[1:]] and frame["model_answer"][0] == said[0]
    at.page.reload()
    at.open()
    at.page.locator("#batch tbody tr .open").first.click()
    dialog.get_by_role("button", name="Back to the model's answer").click()
    expect(dialog.locator(".was")).to_be_hidden()
    at.page.keyboard.press("Escape")
    wait_until(lambda: list(at.rows().values()) == said, "the model's answer is not back")
    assert list(at.export()["answer"]) == said


def test_json_and_typed_questions_over_the_same_files(at: Batch, drawings: Path) -> None:
    files = [drawings / name for name in ("blue-circle-96x96.png", "red-circle-96x96.png")]
    at.drop(files, "2 files")
    at.form("JSON")
    at.page.get_by_label("JSON Schema").fill('{"type": "object", "properties": {"a": {"not": {}}}}')
    at.page.locator("#batch").get_by_label("Prompt", exact=True).fill(PROMPT)
    at.press("Start the run")
    expect(at.page.locator("#batch .ask .error")).to_contain_text("schema: at /properties/a")
    at.me.complaints.clear()  # the browser's own line about the refused request
    schema = '{"type": "object", "properties": {"red": {"type": "boolean"}}, "required": ["red"]}'
    at.page.get_by_label("JSON Schema").fill(schema)
    at.start()
    at.comes_to("done")
    expect(at.page.locator("#batch .notes .valid")).to_have_count(2)
    assert "answer.red" in at.export().columns
    at.press("Same files, another prompt")
    expect(at.page.locator("#batch .files .sent")).to_contain_text("2 files")
    expect(at.page.locator("#batch").get_by_label("Prompt", exact=True)).to_have_value(PROMPT)
    at.form("Typed questions")
    at.page.locator("#batch").get_by_label("Question", exact=True).fill("What color is the shape?")
    at.page.locator("#batch .question").get_by_label("Type").select_option("choice")
    at.page.locator("#batch").get_by_label("Options, one a line").fill("red\nblue")
    at.start("")
    at.comes_to("done")
    wait_until(lambda: [one.split()[-1] for one in at.rows().values()] == ["blue", "red"], "wrong answers")
    at.page.locator("#batch tbody tr .open").first.click()
    dialog = at.page.locator("#batch .row-dialog[open]")
    dialog.get_by_label("Answer to: What color is the shape?").select_option("red")
    expect(dialog.locator(".chosen")).to_contain_text("edited; the model said blue")


def test_a_visitor_of_a_space_sees_only_their_own(
    person: Any, serve_page: Any, demo_engine: Any, drawings: Path
) -> None:
    with serve_page(demo_engine, open_access=True) as url:
        mine, theirs = Batch(person(url)), Batch(person(url))
        mine.drop(sorted(drawings.glob("*-96x96.png"))[:2], "2 files")
        mine.start()
        mine.comes_to("done")
        mine.page.reload()
        mine.open()
        mine.comes_to("done")
        expect(theirs.page.locator("#batch .making")).to_be_visible()
        expect(theirs.page.locator("#batch .which")).to_be_hidden()
        expect(theirs.page.locator("#batch .named")).to_be_hidden()
        for who, count in ((mine, 2), (theirs, 0)):
            expect(open_requests(who).locator("#requests tbody tr[data-key]")).to_have_count(count)
        for who in (mine, theirs):
            who.page.goto("about:blank")  # it must not see its server end


def test_in_german(person: Any, serve_page: Any, demo_engine: Any, drawings: Path) -> None:
    with serve_page(demo_engine) as url:
        at = Batch(person(url, locale="de-DE"), "Stapel")
        at.drop(sorted(drawings.glob("*-96x96.png"))[:2], "2 Dateien")
        at.page.locator("#batch").get_by_label("Prompt", exact=True).fill(PROMPT)
        at.page.locator("#batch .rest summary").click()
        at.page.get_by_label("Token einer Antwort, höchstens").fill("1")
        at.press("Lauf starten")
        at.comes_to("fertig")
        at.says("2 von 2 Zeilen · 2 mit Warnungen")
        expect(at.page.locator("#batch .notes .warned").first).to_have_text("die Antwort wurde abgeschnitten")
        at.page.goto("about:blank")  # it must not see its server end


@pytest.mark.parametrize("name", list(LOOKS))
def test_it_looks_right_and_axe_finds_nothing(
    person: Any, serve_page: Any, demo_engine: Any, drawings: Path, tmp_path: Path, artifacts: Path, name: str
) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    with serve_page(demo_engine) as url:
        at = Batch(person(url, **LOOKS[name]))

        def look(what: str) -> None:
            at.me.at_rest()
            at.me.shoot(artifacts / f"batch-{what}-{name}.png")
            assert serious(at.page) == []
            assert at.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert at.page.locator("#batch").evaluate("node => node.scrollWidth <= node.clientWidth")

        look("new")
        at.drop([*sorted(drawings.glob("*.png"))[:24], tmp_path / "empty.png"], "25 files")
        at.form("Typed questions")
        look("questions")
        at.form("Text")
        at.page.locator("#batch .rest summary").click()
        at.page.get_by_label("Tokens of an answer, at most").fill("6")
        at.start()
        at.comes_to("done")
        look("table")
        at.page.locator("#batch tbody tr .open").first.click()
        expect(at.page.locator("#batch .row-dialog[open]")).to_be_visible()
        look("row")
        at.page.goto("about:blank")  # it must not see its server end
