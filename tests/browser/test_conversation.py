"""How a chat is shown: words as typed, answers as written, media that can be looked at, and an end that follows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from engine.assets import asset
from tests.pages import PHONE, Person

SAMPLES = asset("samples")
TYPED = "What is __init__?\n# no title\n  two  spaces <b>bold</b> &amp; $x$ [l](http://a.example)"
ANSWER = """# Title

Words with `code`, $x^2$, \\(y_1\\) and https://a.example.

```python
def area(radius):
    return 3.14 * radius ** 2  # about
```

| Model | Parameters |
|:--|--:|
| Qwen3-VL-4B-Instruct-internationalization | 4,000,000,000 |

$$\\frac{a}{b}$$

\\[\\sqrt{z}\\]

- [x] done
- [ ] open
"""


def test_words_are_shown_as_typed_and_long_ones_are_folded(person, workbench_url):
    me = person(workbench_url).arrive()
    me.ask(TYPED)
    text = me.page.locator("#chat .words .text")
    assert text.evaluate("node => node.textContent") == TYPED
    assert text.locator("*").count() == 0
    assert me.page.locator("#chat .words .fold").is_hidden()
    me.ask("A line.\n" * 60)
    words = me.page.locator("#chat .words").last
    folded = words.bounding_box()["height"]
    words.get_by_role("button", name="Show all").click()
    assert words.bounding_box()["height"] > 3 * folded
    words.get_by_role("button", name="Show less").click()
    assert words.bounding_box()["height"] == pytest.approx(folded, abs=1)


def test_an_answer_has_code_tables_and_formulas(person, workbench_url, model_says, artifacts):
    model_says(ANSWER)
    me = person(workbench_url, permissions=["clipboard-read", "clipboard-write"]).arrive()
    me.ask("Hello!")
    page, answer = me.page, me.page.locator("#chat .answer")
    assert answer.locator("h3").inner_text() == "Title"
    assert answer.locator(".code-head span").inner_text() == "Python"
    colours = answer.locator("pre span").evaluate_all(
        "all => new Set(all.map(one => getComputedStyle(one).color)).size"
    )
    assert colours >= 3
    answer.get_by_role("button", name="Copy code").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == "def area(radius):\n    return 3.14 * radius ** 2  # about"
    me.button("Copy answer")
    assert page.evaluate("navigator.clipboard.readText()") == ANSWER.rstrip("\n") + "\n" * ANSWER.endswith("\n")
    assert answer.locator("math").count() == 4
    assert answer.locator(".formula.display").count() == 2
    assert answer.locator("math").first.bounding_box()["height"] > 5, "the browser draws it"
    assert [box.get_attribute("aria-label") for box in answer.locator(".task").all()] == ["done", "not done"]
    assert answer.locator("td").nth(1).evaluate("node => getComputedStyle(node).textAlign") == "right"
    me.shoot(artifacts / "answer.png")


def test_a_table_breaks_no_word_on_a_phone(person, workbench_url, model_says):
    model_says(ANSWER)
    me = person(workbench_url, **PHONE).arrive()
    me.ask("Hello!")
    lines = me.page.locator("#chat td").evaluate_all(
        """cells => cells.map(cell => { const range = document.createRange(); range.selectNodeContents(cell);
           return new Set([...range.getClientRects()].map(box => Math.round(box.top))).size; })"""
    )
    assert lines[1] == 1, "a number is broken"
    table = me.page.locator("#chat .table")
    assert table.evaluate("node => node.scrollWidth >= node.clientWidth && getComputedStyle(node).overflowX") == "auto"
    assert me.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_media_stand_in_a_grid_with_their_names_and_can_be_looked_at(person, workbench_url, artifacts):
    names = ("circle.png", "pair-a.png", "triangle.png", "moving-circle.mp4")
    me = person(workbench_url).arrive()
    page = me.page
    me.drop(*(SAMPLES / name for name in names))
    me.ask("Compare these images.")
    assert page.locator("#chat .medium figcaption").all_inner_texts() == list(names)
    boxes = [medium.bounding_box() for medium in page.locator("#chat .medium").all()]
    assert len({round(box["y"]) for box in boxes}) == 2, "two rows of two"
    assert all(box["x"] + box["width"] <= 1280 for box in boxes)

    page.locator("#chat .picture").first.click()
    box = page.locator(".lightbox")
    assert box.locator("h2").inner_text() == "circle.png"
    box.locator(".seen:not([hidden])").wait_for()
    sent, seen = box.locator("figcaption").all_inner_texts()
    assert (sent, seen) == ("As sent 480 × 480", "As the model saw it 128 × 128")
    assert "picture 480 × 480 → 128 × 128 seen" in box.locator("p").inner_text()
    me.shoot(artifacts / "lightbox.png")
    page.keyboard.press("ArrowRight")
    page.locator(".lightbox h2", has_text="pair-a.png").wait_for()
    page.keyboard.press("Escape")
    assert box.is_hidden()
    assert page.evaluate("document.activeElement.classList.contains('picture')"), "the focus is where it was"

    film = page.locator("#chat .medium video")
    assert film.evaluate("node => node.controls && node.duration > 1")
    film.evaluate("node => { node.muted = true; return node.play(); }")
    page.wait_for_function("document.querySelector('#chat .medium video').currentTime > 0")


def test_the_end_is_followed_until_the_reader_scrolls(person, slow_url, model_says):
    model_says("")  # the tokens of a model without end come as empty text; then as these words:
    model_says("A paragraph of many words that goes on and on.\n\n" * 400)
    me = person(slow_url, viewport={"width": 1000, "height": 620}).arrive()
    page = me.page
    me.send("Tell me a long story.")
    gap = """(() => { const all = document.querySelector('#chat .conversation');
                      return all.scrollHeight - all.clientHeight - all.scrollTop; })()"""
    page.wait_for_function("document.querySelector('#chat .conversation').scrollHeight > 1500")
    page.wait_for_function(f"{gap} < 5")
    page.mouse.move(500, 300)
    page.mouse.wheel(0, -500)
    page.wait_for_timeout(200)
    top = page.evaluate("document.querySelector('#chat .conversation').scrollTop")
    page.wait_for_timeout(1000)
    assert page.evaluate("document.querySelector('#chat .conversation').scrollTop") == pytest.approx(top, abs=2)
    page.get_by_role("button", name="To the end").click()
    page.wait_for_function(f"{gap} < 5")
    me.stop()
    me.finished()
    page.wait_for_function(f"{gap} < 5")
    last = page.locator("#chat .turn").last.bounding_box()
    assert last["y"] + last["height"] <= page.locator("#composer").bounding_box()["y"], "the composer lies over the end"


def files_of(me: Person) -> list[str]:
    return [text.replace("\n", " ") for text in me.page.locator("#composer .file-words").all_inner_texts()]


@pytest.mark.parametrize("context", [{}, PHONE], ids=["desktop", "phone"])
def test_the_composer_says_what_its_files_are_and_only_the_sign_takes_one_out(person, workbench_url, drawn, context):
    me = person(workbench_url, **context).arrive()
    page = me.page
    me.drop(drawn("red", "circle"), drawn("blue", "square"))
    page.locator("#composer .file-words", has_text=re.compile(r"\d+ tokens")).first.wait_for()
    assert [re.sub(r"[\d.]+ (B|KB)", "n", words) for words in files_of(me)] == [
        "red-circle.png n · 16 tokens",
        "blue-square.png n · 16 tokens",
    ]
    page.locator("#composer .thumbnail-item img").first.click()
    page.locator(".lightbox h2", has_text="red-circle.png").wait_for()
    page.keyboard.press("Escape")
    assert len(files_of(me)) == 2, "looking at it took it out"
    sign = page.get_by_role("button", name="Remove red-circle.png")
    box = sign.bounding_box()
    assert min(box["width"], box["height"]) >= (44 if context else 24)
    assert sign.evaluate("node => getComputedStyle(node).opacity") == "1"
    sign.click()
    page.wait_for_function("document.querySelectorAll('#composer .thumbnail-item').length === 1")
    page.wait_for_function("document.querySelector('#composer .file-words').innerText.startsWith('blue')")


def test_what_is_text_and_picture_is_pasted_by_choice(person, workbench_url, drawn):
    me = person(workbench_url).arrive()
    page = me.page
    page.focus("#composer textarea")
    page.keyboard.type("A table: ")
    transfer = me._transfer((drawn(),))
    page.evaluate(
        """data => { data.setData('text/plain', '1 2 3');
             const area = document.querySelector('#composer textarea');
             const event = new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true});
             if (area.dispatchEvent(event)) document.execCommand('insertText', false, '1 2 3'); }""",
        transfer,
    )
    page.get_by_role("button", name="Paste the picture instead").wait_for()
    assert page.input_value("#composer textarea") == "A table: 1 2 3"
    page.get_by_role("button", name="Paste the picture instead").click()
    me._uploaded(1)
    assert page.input_value("#composer textarea") == "A table: "


def test_a_message_waits_until_the_answer_is_done(person, workbench_url, slow_url):
    me = person(slow_url).arrive()
    me.set("Max tokens", "600")  # it must not be done before the next message is sent
    me.send("Tell me a story.")
    me.answers.last.wait_for()
    me.page.fill("#composer textarea", "And then?")
    me.page.press("#composer textarea", "Enter")
    me.page.get_by_text("Waits for the answer to end").wait_for()
    me.page.locator("#chat .words", has_text="And then?").wait_for()
    me.finished(2)
    assert me.page.input_value("#composer textarea") == ""
    assert me.page.get_by_text("Waits for the answer to end").count() == 0


def broken(folder: Path) -> Path:
    path = folder / "notes.png"
    path.write_text("these are words")
    return path


def test_a_broken_medium_is_marked_left_out_and_taken_out_by_a_click(person, workbench_url, drawn, tmp_path, artifacts):
    me = person(workbench_url).arrive()
    page = me.page
    me.drop(broken(tmp_path), drawn("green", "triangle"))
    me.send("What is in this image?")
    page.locator("#chat .note-error").wait_for()
    me.finished()
    marked = page.locator("#chat .medium.is-broken")
    assert marked.locator("figcaption").inner_text() == "notes.png"
    assert "Left out" in marked.locator(".broken").inner_text()
    me.shoot(artifacts / "broken.png")
    assert "triangle" in me.ask("What shape is it?").lower(), "it poisons the chat"
    marked.get_by_role("button", name="Take it out").click()
    marked.wait_for(state="detached")
    assert "green" in me.ask("What color is it?").lower()


def test_taken_out_at_once_the_message_is_answered(person, workbench_url, drawn, tmp_path):
    me = person(workbench_url).arrive()
    me.drop(broken(tmp_path), drawn("green", "triangle"))
    me.send("What shape is it?")
    me.page.locator("#chat .note-error").wait_for()
    me.finished()
    me.page.get_by_role("button", name="Take it out").click()
    me.page.locator("#chat .note-note").wait_for()
    assert "triangle" in me.answer.lower()
    assert me.page.locator("#chat .note-error").count() == 0


def test_reasoning_folds_when_the_answer_begins(person: Any, workbench_url, model_says, monkeypatch, demo_engine):
    """The demo model does not reason; the marks are put into its text as a model's template would."""
    from mlx_lm.tokenizer_utils import TokenizerWrapper

    monkeypatch.setattr(TokenizerWrapper, "has_thinking", True)
    monkeypatch.setattr(TokenizerWrapper, "think_start", "<think>")
    monkeypatch.setattr(TokenizerWrapper, "think_end", "</think>")
    for name in ("think_start_tokens", "think_end_tokens"):  # for a limit of reasoning, which is not asked for
        monkeypatch.setattr(TokenizerWrapper, name, (0,))
    model_says("<think>It is **round**.\nAnd red.</think>A circle, all in all, and nothing else.")
    me = person(workbench_url).arrive()
    assert "A circle" in me.ask("What is it?")
    thought = me.page.locator("#chat .thought")
    assert re.fullmatch(r"Thought for [\d.:]+( s)?", thought.locator("summary").inner_text())
    assert thought.get_attribute("open") is None
    thought.locator("summary").click()
    assert thought.locator(".text").inner_text() == "It is **round**.\nAnd red."
