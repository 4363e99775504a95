"""The chat as a person uses it, on the demo model: what is dropped into the page is what the answer is about."""

from __future__ import annotations

import json
import re

import httpx

from engine.assets import asset
from engine.types import Snapshot
from tests.pictures import data_url, keeps_promise

QUESTION = "What is in this image?"


def requests(snapshot: Snapshot) -> int:
    return snapshot.totals.requests


def test_a_dropped_red_circle_is_described(person, workbench_url, drawn):
    me = person(workbench_url).arrive()
    me.drop(drawn("red", "circle"))
    answer = me.ask(QUESTION).lower()
    assert "red" in answer
    assert "circle" in answer
    assert me.asked.count() == 2  # the picture and the words
    assert re.fullmatch(
        r"\d+ tokens in( \(\d+ from cache\))? · \d+ out · first token [\d.]+ m?s · [\d.,]+ tokens/s",
        me.notes.last.inner_text(),
    )


def test_the_answer_depends_on_the_picture(person, workbench_url, drawn):
    me = person(workbench_url).arrive()
    me.drop(drawn("blue", "square"), onto="#chat")
    answer = me.ask(QUESTION).lower()
    assert "blue" in answer
    assert "square" in answer
    assert "red" not in answer


def test_a_drop_on_the_composer_counts_once(person, workbench_url, drawn):
    me = person(workbench_url).arrive()
    me.drop(drawn(), onto="#composer textarea")
    me.ask(QUESTION)
    assert me.page.locator("#chat .message img").count() == 1


def test_several_pictures_are_pasted_at_once_and_the_api_says_the_same(person, workbench_url, drawn):
    """Two pictures through the page and through /v1 on the same port: the same answer, the same numbers."""
    first, second = drawn("blue", "square"), drawn("orange", "circle")
    me = person(workbench_url).arrive()
    me.set("Temperature", "0")
    me.paste(first, second)
    answer = me.ask("Compare these images.")
    assert me.page.locator("#chat .message img").count() == 2

    parts = [{"type": "image_url", "image_url": {"url": data_url(path.read_bytes())}} for path in (first, second)]
    parts.append({"type": "text", "text": "Compare these images."})
    body = {"model": "default", "temperature": 0, "messages": [{"role": "user", "content": parts}]}
    reply = httpx.post(f"{workbench_url}/v1/chat/completions", json=body, timeout=60).json()
    assert reply["choices"][0]["message"]["content"] == answer
    usage = reply["usage"]
    numbers = f"{usage['prompt_tokens']} tokens in"
    assert me.notes.last.inner_text().startswith(numbers)
    assert f"{usage['completion_tokens']} out" in me.notes.last.inner_text()
    assert usage["prompt_tokens"] > 2 * 9  # a picture of this size is nine tokens: both went in


def test_a_clip_is_seen_as_a_clip(person, workbench_url, clip):
    me = person(workbench_url).arrive()
    me.drop(clip)
    answer = me.ask("What happens in this video?").lower()
    assert "move" in answer
    assert me.page.locator("#chat .message video").count() == 1


def test_a_second_question_is_about_the_same_picture(person, workbench_url, drawn):
    me = person(workbench_url).arrive()
    me.drop(drawn("green", "triangle"))
    me.ask(QUESTION)
    assert "triangle" in me.ask("What shape is it?").lower()
    assert me.notes.count() == 2


def test_the_example_cards_get_the_answers_they_promise(person, workbench_url):
    promised = [card["expect"] for card in json.loads((asset("samples") / "samples.json").read_text())]
    me = person(workbench_url).arrive()
    cards = me.page.locator("#chat .example")
    count = cards.count()
    assert count >= 3
    assert sum("_2d" in words for words in promised[:count]) >= 3, "boxes and points are shown"
    for number in range(count):
        cards.nth(number).click()
        me.finished()
        assert keeps_promise(me.answer, promised[number]), me.answer
        me.page.locator('#chat button[aria-label="New chat"]').click()
        cards.first.wait_for()


def test_the_cards_pictures_one_after_the_other_in_one_chat(person, workbench_url):
    folder = asset("samples")
    me = person(workbench_url).arrive()
    cards = json.loads((folder / "samples.json").read_text())
    for card in [card for card in cards if not card["expect"].startswith("[")][:4]:
        me.drop(*(folder / name for name in card["files"]))
        assert me.ask(card["text"]) == card["expect"]


def test_a_toy_says_so_under_its_answers_and_leads_to_other_models(person, workbench_url):
    me = person(workbench_url).arrive()
    me.ask("Who are you?")
    note = me.page.locator("#chat .toy:visible")
    assert "This model is a toy." in note.inner_text()
    note.get_by_role("button", name="Load another model").click()
    me.page.get_by_role("tab", name="Models", selected=True).wait_for()


def test_retry_answers_the_same_question_again(person, workbench_url, drawn, demo_engine):
    me = person(workbench_url).arrive()
    me.drop(drawn())
    me.ask(QUESTION)
    before = requests(demo_engine.snapshot())
    me.button("Retry")
    me.page.get_by_text("2/2", exact=True).wait_for()
    me.finished()
    assert requests(demo_engine.snapshot()) == before + 1
    assert (me.answers.count(), me.notes.count(), me.asked.count()) == (1, 1, 2)
    assert "circle" in me.answer.lower()


def test_an_edited_message_keeps_its_picture(person, workbench_url, drawn):
    me = person(workbench_url).arrive()
    me.drop(drawn("blue", "circle"))
    me.ask("What shape is it?")
    me.button("Edit")
    me.page.fill("#chat textarea", "What color is it?")
    me.page.press("#chat textarea", "Enter")
    me.page.get_by_text("2/2", exact=True).wait_for()
    me.finished()
    assert "blue" in me.answer.lower()
    assert me.page.locator("#chat .message img").count() == 1
    assert "What color is it?" in me.asked.last.inner_text()


def test_undo_puts_the_message_back_into_the_composer(person, workbench_url, drawn):
    me = person(workbench_url).arrive()
    me.drop(drawn("blue", "circle"))
    me.ask("What shape is it?")
    me.button("Undo")
    me.page.locator("#composer .thumbnail-item").wait_for()
    assert me.page.input_value("#composer textarea") == "What shape is it?"
    assert me.asked.count() == 0
    assert "blue" in me.ask("What color is it?").lower()


def test_a_new_chat_forgets_the_picture(person, workbench_url, drawn):
    me = person(workbench_url).arrive()
    me.drop(drawn())
    me.ask(QUESTION)
    me.page.locator('#chat button[aria-label="New chat"]').click()
    me.page.locator("#chat .welcome").wait_for()
    me.ask("Hello!")
    assert me.page.locator("#chat .message img").count() == 0
    tokens_in = int(me.notes.last.inner_text().split()[0])
    assert tokens_in < 20  # a picture alone is more


def test_two_pages_never_see_each_others_pictures(person, workbench_url, drawn):
    one, two = person(workbench_url).arrive(), person(workbench_url).arrive()
    one.drop(drawn("red", "circle"))
    two.drop(drawn("blue", "square"))
    one.send(QUESTION)
    two.send(QUESTION)
    one.finished()
    two.finished()
    assert "red" in one.answer.lower()
    assert "blue" in two.answer.lower()
    assert (one.asked.count(), two.asked.count()) == (2, 2)
    assert "circle" in one.ask("What shape is it?").lower()
    assert "square" in two.ask("What shape is it?").lower()


def test_a_text_file_named_png_is_an_error_and_the_chat_goes_on(person, workbench_url, drawn, tmp_path, artifacts):
    fake = tmp_path / "notes.png"
    fake.write_text("these are words")
    me = person(workbench_url).arrive()
    me.drop(fake)
    me.send(QUESTION)
    me.page.locator("#chat .note-error").wait_for()
    me.page.locator("#composer .submit-button").wait_for()
    assert "notes.png" in me.notes.last.inner_text()
    me.shoot(artifacts / "error-not-a-picture.png")
    me.page.locator('#chat button[aria-label="New chat"]').click()
    me.page.locator("#chat .welcome").wait_for()
    me.drop(drawn())
    assert "circle" in me.ask(QUESTION).lower()


def test_settings_reach_the_model(person, workbench_url, drawn):
    me = person(workbench_url).arrive()
    me.set("Max tokens", "2")
    me.drop(drawn())
    me.ask(QUESTION)
    assert "2 out" in me.notes.last.inner_text()
    assert "length limit reached" in me.notes.last.inner_text()


def test_a_setting_that_is_refused_leaves_the_chat_usable(person, workbench_url):
    me = person(workbench_url).arrive()
    for count, wrong in enumerate(("hot", "-1"), 1):
        me.set("Temperature", wrong)
        me.send("Hello!")
        me.finished(count)
        assert f"“{wrong}” is not" in me.page.locator("#chat .note-error").last.inner_text()
    me.set("Temperature", "0")
    me.ask("Hello!")
    assert me.answers.count() == 1


def test_an_indented_paste_is_sent_as_it_is(person, workbench_url):
    """Gradio's chat strips indentation from what it shows; the model must get it, and it costs tokens."""
    me = person(workbench_url).arrive()
    me.ask("x")
    plain = int(me.notes.last.inner_text().split()[0])
    me.page.locator('#chat button[aria-label="New chat"]').click()
    me.page.locator("#chat .welcome").wait_for()
    me.ask("        x")
    assert int(me.notes.last.inner_text().split()[0]) > plain
