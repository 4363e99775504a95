"""What a vision model is asked, and what a text model reads in place of media."""

from __future__ import annotations

import pytest

from engine.config import VisionProxy
from engine.errors import BadRequest
from engine.types import Message, Part, Request
from engine.vision_proxy.prompts import NO_QUESTION, question_prompt, turn_questions, with_descriptions

PICTURE = Part("image", url="data:,", param="messages[0].content[0]")
CLIP = Part("video", url="data:,")


def said(role: str, *texts: str) -> Message:
    return Message(role, tuple(Part("text", text=text) for text in texts))  # type: ignore[arg-type]


def test_the_template_is_filled_in_and_nothing_else_is() -> None:
    template = '{"about": "{kind} {number}"} {question} / {prompt}'
    assert question_prompt(template, "{kind}?", "video", 3) == '{"about": "clip 3"} {kind}? / {kind}?'
    default = question_prompt(VisionProxy("eyes").prompt_template, "Which colour?", "image", 1)
    assert "picture" in default and default.endswith("Which colour?")
    with pytest.raises(BadRequest, match=r"\{questoin\}.*\{question\}"):
        VisionProxy("eyes", "Look: {questoin}")


def test_media_are_described_with_the_question_of_their_own_turn() -> None:
    messages = (
        said("system", "Be kind."),
        Message("user", (PICTURE, Part("text", text="What is it?"), Part("text", text="And why?"))),
        said("assistant", "A circle."),
        Message("user", (CLIP,)),  # without a word of its own: the next one's
        said("user", "Where does it go?"),
        said("assistant", ""),
        Message("tool", (PICTURE, Part("text", text="a screenshot"))),
    )
    what, where = "What is it?\nAnd why?", "Where does it go?"
    assert turn_questions(messages) == (what, what, what, where, where, where, where)
    assert turn_questions((Message("user", (PICTURE,)),)) == (NO_QUESTION,)
    later = (Message("user", (PICTURE,)), said("assistant", "Nice."), said("user", "Thanks"))
    assert turn_questions(later)[0] == NO_QUESTION, "the words of another turn are not about it"


def test_descriptions_are_texts_in_the_place_of_their_media() -> None:
    request = Request(
        messages=(
            Message("user", (PICTURE, CLIP, Part("text", text="Same?"))),
            said("assistant", "No."),
            Message("user", (Part("text", text="And this?"), PICTURE)),
        )
    )
    found = with_descriptions(request, ["red", "blue", "green"])
    assert found.media_parts == []
    texts = ["".join(part.text for part in message.parts) for message in found.messages]
    assert texts == [
        "Picture 1 shows this: red\nClip 2 shows this: blue\nAnswer from them: Same?",
        "No.",
        "And this?\n\nPicture 3 shows this: green",
    ]
    assert found.messages[0].parts[0].param == PICTURE.param


def test_a_question_is_told_from_what_stands_around_a_page() -> None:
    page = (Part("text", text="Report, page 1 of 1:"), PICTURE, Part("text", text="Text of page 1:\nHello"))
    request = Request(messages=(Message("user", (*page, Part("text", text="Sum up"))), Message("tool", (PICTURE,))))
    first, tool = with_descriptions(request, ["a page", "a screen"]).messages
    assert "".join(part.text for part in first.parts) == (
        "Report, page 1 of 1:\n\nPicture 1 shows this: a page\n\nText of page 1:\nHelloSum up"
    )
    assert tool.parts[0].text == "Picture 2 shows this: a screen"
    single = Request(messages=(Message("user", (PICTURE, Part("text", text="Why?"))),))
    (asked,) = with_descriptions(single, ["red"]).messages
    assert "".join(part.text for part in asked.parts) == "Picture 1 shows this: red\nAnswer from it: Why?"
