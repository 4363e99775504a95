"""Media that cannot be read: which one an error is about, and what is left when its failed answer is taken back."""

from __future__ import annotations

import pytest

from engine.errors import BadMedia, Unavailable
from workbench.conversations.broken import mark_broken, with_broken
from workbench.conversations.types import Attachment, Turn

CAT, DOG = (Attachment("image", name, digit * 64, 5) for name, digit in (("cat.png", "a"), ("dog.png", "b")))
ERROR = BadMedia("cat.png: this is text.", param="cat.png")
EARLIER = Turn("q1", "user", attachments=(CAT, DOG))
QUESTION = Turn("q2", "user", "a1", "And this?", attachments=(DOG, CAT))
FAILED = Turn("a2", "assistant", "q2", state="failed", error=ERROR.message)
PATH = (EARLIER, Turn("a1", "assistant", "q1", "A cat."), QUESTION)


def test_the_last_medium_of_its_name_is_marked_and_then_the_one_before_it():
    marked = with_broken(PATH, ERROR)
    assert marked.id == "q2"
    assert [one.broken for one in marked.attachments] == ["", "this is text."]
    before = with_broken((EARLIER, marked), ERROR)
    assert before.id == "q1"
    assert [one.broken for one in before.attachments] == ["this is text.", ""]


@pytest.mark.parametrize(
    "error", [BadMedia("bird.png: no.", param="bird.png"), Unavailable("cat.png: no.", param="cat.png")]
)
def test_an_error_about_no_medium_marks_none(error):
    assert with_broken(PATH, error) is None


def test_the_mark_is_kept_and_a_failed_answer_is_taken_back(mine):
    made = mine.create()
    mine.add(made.id, (*PATH, FAILED))
    revision = mine.get(made.id).revision
    mark_broken(mine, made.id, FAILED, ERROR)
    assert mine.turn(made.id, "q2").attachments[1].broken == "this is text."
    assert mine.get(made.id).revision > revision, "pages are told"
    mine.take_back(made.id, "a2")
    assert [turn.id for turn in mine.path(made.id)] == ["q1", "a1", "q2"]


def test_a_turn_that_something_follows_is_not_deleted(mine):
    made = mine.create()
    mine.add(made.id, (*PATH, FAILED))
    mine.take_back(made.id, "q2")
    assert mine.turn(made.id, "q2").text == "And this?"


def test_a_conversation_that_was_deleted_meanwhile_is_left_alone(mine):
    made = mine.create()
    mine.add(made.id, (*PATH, FAILED))
    mine.delete(made.id)
    mark_broken(mine, made.id, FAILED, ERROR)
