"""The Decide tab: ten questions about one drawing are answered right, with the numbers of the API, and go out and in as
CSV."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import expect

from tests.pages import Person
from tests.pictures import data_url
from tests.waiting import wait_until

QUESTIONS: tuple[tuple[str, str, str, str], ...] = (
    ("What color is the circle?", "choice", "red | green | blue | yellow", "red"),
    ("What color is the square?", "choice", "red | green | blue | yellow", "blue"),
    ("What shape is red?", "choice", "circle | square | triangle | star", "circle"),
    ("Where is the circle?", "choice", "top left | top right | bottom left | bottom right | center", "top left"),
    ("Where is the square?", "choice", "top left | top right | bottom left | bottom right | center", "bottom right"),
    ("How many shapes are there?", "score", "none | one | two | three", "two"),
    ("How many circles are there?", "score", "none | one | two | three", "one"),
    ("Is there a red circle?", "yes or no", "", "Yes"),
    ("Is there a green triangle?", "yes or no", "", "No"),
    ("Is the square blue?", "yes or no", "", "Yes"),
)


class Decide:
    """A person at the Decide tab."""

    def __init__(self, me: Person) -> None:
        self.page = me.arrive().page
        self.page.get_by_role("tab", name="Decide").click()
        self.page.locator("#decide .question").first.wait_for()

    def choose(self, path: Path) -> None:
        self.page.locator("#decide .about input[type=file]").set_input_files(path)
        self.page.locator("#decide .shown img").wait_for()

    def load(self, text: str) -> None:
        file = {"name": "questions.csv", "mimeType": "text/csv", "buffer": text.encode()}
        self.page.locator("#decide .questions input[type=file]").set_input_files(file)

    def decide(self, words: str) -> str:
        """Press the button; what is said once the answers to this press are there."""
        self.page.get_by_role("button", name="Decide", exact=True).click()  # which empties the line below it
        summary = self.page.locator("#decide .summary", has_text=words)
        summary.wait_for()
        return str(summary.inner_text())

    def answers(self) -> list[str]:
        return [text.split(", mean ")[0] for text in self.page.locator("#decide .said strong").all_inner_texts()]

    def probabilities(self) -> list[list[float]]:
        found = self.page.locator("#decide .bars").evaluate_all(
            "all => all.map(list => [...list.children].map(bar => Number(bar.dataset.probability)))"
        )
        return [list(map(float, bars)) for bars in found]

    def export(self) -> list[dict[str, str]]:
        with self.page.expect_download() as download:
            self.page.get_by_role("button", name="Export CSV").click()
        return list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))


@pytest.fixture
def drawing(tmp_path: Path) -> Path:
    image = Image.new("RGB", (256, 256), "#fafafa")
    draw = ImageDraw.Draw(image)
    draw.ellipse((30, 30, 90, 90), fill="red")
    draw.rectangle((160, 150, 230, 220), fill="blue")
    image.save(tmp_path / "drawing.png")
    return tmp_path / "drawing.png"


def as_csv(questions: Any = QUESTIONS) -> str:
    out = io.StringIO()
    csv.writer(out).writerows([("question", "type", "options"), *(row[:3] for row in questions)])
    return out.getvalue()


def by_api(url: str, picture: Path) -> list[Any]:
    """The same questions through /v1/decisions."""
    asked: list[Any] = []
    for words, kind, options, _ in QUESTIONS:
        values = [option.strip() for option in options.split("|")]
        more: dict[str, Any] = {"type": "predicate"}
        if kind == "choice":
            more = {"type": "choice", "choices": [{"value": value} for value in values]}
        elif kind == "score":
            more = {"type": "score", "levels": [{"label": value} for value in values]}
        asked.append({"instructions": words, **more})
    part = {"type": "input_image", "image_url": data_url(picture.read_bytes())}
    body = {"input": [{"role": "user", "content": [part]}], "questions": asked}
    answer = httpx.post(f"{url}/v1/decisions", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["answers"])


def test_ten_questions_about_one_drawing(person: Any, workbench_url: str, drawing: Path) -> None:
    at = Decide(person(workbench_url))
    at.choose(drawing)
    at.load(as_csv())
    at.page.locator("#decide .question").nth(9).wait_for()
    summary = at.decide("10 questions in")
    told = re.fullmatch(r"10 questions in [\d.]+ m?s · ([\d,]+) tokens, (none|[\d,]+) of them from the cache", summary)
    assert told and int(told[1].replace(",", "")) > 10 * 5, summary
    assert at.answers() == [right for *_, right in QUESTIONS]
    for question in at.page.locator("#decide .question").all():
        frame, answer = question.bounding_box(), question.locator(".said").bounding_box()
        assert frame["y"] < answer["y"] < frame["y"] + frame["height"], "an answer stands under its question"
    expect(at.page.locator("#decide .of")).to_have_text(["Probability of each option"] * 10)
    meaning = at.page.locator("#decide .meaning").first
    expect(meaning).to_be_hidden()
    at.page.get_by_role("button", name="confidence").first.click()
    expect(meaning).to_contain_text("0 % where all options are equally likely, 100 % where one is certain.")
    # The numbers are the API's, for the same request.
    for drawn, answer in zip(at.probabilities(), by_api(workbench_url, drawing), strict=True):
        if answer["type"] == "predicate":
            assert drawn == pytest.approx([answer["probability"], 1 - answer["probability"]], abs=1e-4)
        else:
            assert drawn == pytest.approx([p["probability"] for p in answer["probabilities"]], abs=1e-4)
    exported = at.export()
    assert [row["answer"].split(", mean ")[0] for row in exported] == [right for *_, right in QUESTIONS]
    shown = [list(json.loads(row["probabilities"]).values()) for row in exported]
    assert shown == at.probabilities()
    again = re.search(r"(\d+) of them from the cache", at.decide("10 questions in"))
    assert again and int(again[1]) > 0, "its second time, the drawing is in the cache"
    assert at.answers() == [right for *_, right in QUESTIONS]


def test_questions_are_typed_changed_and_removed(person: Any, workbench_url: str, drawing: Path) -> None:
    at = Decide(person(workbench_url))
    page = at.page
    page.get_by_role("button", name="Decide", exact=True).click()
    page.get_by_text("Question 1: it has no words yet").wait_for()
    page.get_by_label("Question", exact=True).fill("Is there a circle?")
    page.get_by_role("button", name="Decide", exact=True).click()
    page.get_by_text("There is nothing to ask about yet").wait_for()
    at.choose(drawing)
    page.get_by_role("button", name="Add a question").click()
    page.get_by_label("Question", exact=True).nth(1).fill("What color is it?")
    page.get_by_label("Type").nth(1).select_option("choice")
    page.get_by_label("Options, one a line").nth(1).fill("red\n\n blue ")
    at.decide("2 questions in")
    assert [len(bars) for bars in at.probabilities()] == [2, 2]
    page.get_by_label("Question", exact=True).nth(1).fill("What color is the square?")
    assert page.locator("#decide .bars").count() == 1, "an answer does not outlive its question"
    page.get_by_label("Remove this question").first.click()
    at.decide("1 question in")
    assert at.answers() == ["blue"]
    page.get_by_label("Remove the file").click()
    page.get_by_label("Text").fill("<b>Some</b> text.")
    assert at.answers() == [], "an answer does not outlive what it is about"
    at.decide("1 question in")
    assert len(at.answers()) == 1
    at.load("words\n1\n")
    page.get_by_text("no column named question").wait_for()


def test_names_are_text_and_many_options_fold(person: Any, workbench_url: str, drawing: Path) -> None:
    at = Decide(person(workbench_url))
    at.choose(drawing)
    options = ["<img src=x onerror=alert(1)>", *(f"number {i}" for i in range(30))]
    at.load(as_csv([("<b>What?</b>", "choice", " | ".join(options))]))
    at.page.wait_for_function("document.querySelector('#decide .question textarea').value === '<b>What?</b>'")
    at.decide("1 question in")
    bars = at.page.locator("#decide .bar")
    assert bars.count() == 31 and at.page.locator("#decide .bar:visible").count() == 8
    assert at.page.locator("#decide .bar .label").first.text_content() == options[0]
    at.page.get_by_role("button", name="Show all 31").click()
    assert at.page.locator("#decide .bar:visible").count() == 31


def test_it_can_be_stopped(person: Any, slow_url: str, slow_engine: Any, drawing: Path) -> None:
    at = Decide(person(slow_url))
    at.choose(drawing)
    many = [
        (f"Is number {i} there, or is it one of the others?", "choice", "one | other | neither") for i in range(400)
    ]
    at.load(as_csv(many))
    at.page.locator("#decide .question").nth(399).wait_for()
    at.page.get_by_role("button", name="Decide", exact=True).click()
    at.page.get_by_role("button", name="Stop", exact=True).click()
    at.page.get_by_text("Stopped.").wait_for()
    wait_until(lambda: not slow_engine.snapshot().running, "it goes on")
    at.load(as_csv(many[:2]))
    at.page.locator("#decide .question").nth(2).wait_for(state="detached")
    at.decide("2 questions in")
