"""workbench.chat.convert: entries <-> requests and displayed messages."""

from __future__ import annotations

import pytest

from engine.types import Done, PageChoice, Part, Sampling, Timing, Usage
from workbench.chat import convert
from workbench.chat.convert import ChatEntry, ChatSettings

PICTURE = ChatEntry("user", "image", path="/up/cat.png")
QUESTION = ChatEntry("user", "text", "What is it?")
ANSWER = ChatEntry("assistant", "text", "A cat.")
NOTE = ChatEntry("assistant", "note", "12 tokens in")
CHAT = (PICTURE, QUESTION, ANSWER, NOTE)


def test_media_come_before_the_words_and_keep_their_order():
    entries = convert.user_entries("Compare", ["/up/a.png", "/up/b.MP4", "/up/c.jpg"])
    assert [(e.kind, e.path) for e in entries] == [
        ("image", "/up/a.png"),
        ("video", "/up/b.MP4"),
        ("image", "/up/c.jpg"),
        ("text", None),
    ]


def test_blank_text_is_no_entry():
    assert convert.user_entries(" \n", []) == ()
    assert convert.user_entries(" \n", ["/up/a.png"]) == (ChatEntry("user", "image", path="/up/a.png"),)


def test_raw_text_is_sent_as_typed():
    code = "    def f():\n        return 1\n"
    request = convert.to_request(convert.user_entries(code, []), ChatSettings())
    assert request.messages[0].parts == (Part("text", code, param="message"),)


def test_neighbours_of_one_role_become_one_message_and_display_only_entries_are_left_out():
    thought = ChatEntry("assistant", "reasoning", "hm")
    failed = ChatEntry("assistant", "error", "no")
    request = convert.to_request((PICTURE, QUESTION, thought, ANSWER, NOTE, QUESTION, failed), ChatSettings(), "tab-1")
    assert [(m.role, [p.kind for p in m.parts]) for m in request.messages] == [
        ("user", ["image", "text"]),
        ("assistant", ["text"]),
        ("user", ["text"]),
    ]
    assert request.messages[0].parts[0].path == "/up/cat.png"
    assert (request.source, request.session) == ("chat", "tab-1")


def test_a_question_asked_again_after_a_failure_joins_the_first_one():
    failed = ChatEntry("assistant", "error", "no")
    request = convert.to_request((PICTURE, failed, QUESTION), ChatSettings())
    assert [(m.role, [p.kind for p in m.parts]) for m in request.messages] == [("user", ["image", "text"])]


def test_settings_reach_the_request():
    settings = ChatSettings(system="Be brief.", sampling=Sampling(temperature=0.0, seed=3), max_tokens=7)
    request = convert.to_request((QUESTION,), settings)
    assert request.messages[0].role == "system"
    assert request.messages[0].parts[0].text == "Be brief."
    assert (request.sampling.temperature, request.sampling.seed, request.max_tokens) == (0.0, 3, 7)
    assert [m.role for m in convert.to_request((QUESTION,), ChatSettings(system="  ")).messages] == ["user"]


def test_note_says_what_the_api_says():
    timing = Timing(ttft_ms=212.4, decode_ms=980.0, completion_tokens=50, prompt_tokens=1204)
    done = Done("stop", Usage(1204, 50), timing)
    assert convert.note(done) == "1,204 tokens in · 50 out · first token 212 ms · 50.0 tokens/s"


@pytest.mark.parametrize(("reason", "words"), [("length", "length limit reached"), ("cancelled", "stopped")])
def test_note_says_why_an_answer_ended_early(reason, words):
    timing = Timing(ttft_ms=1500.0, decode_ms=0.0, completion_tokens=1, prompt_tokens=9)
    note = convert.note(Done(reason, Usage(9, 1, cached_tokens=4), timing))
    assert note == f"9 tokens in (4 from cache) · 1 out · first token 1.50 s · {words}"


def test_stopped_note():
    assert convert.stopped_note(37) == "37 out · stopped"
    assert convert.stopped_note(0) == "stopped before the first token"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a.WAV", "audio"),
        ("a.mp3", "audio"),
        ("a.ogg", "audio"),
        ("a.ogv", "video"),
        ("a.mp4", "video"),
        ("a", "image"),
    ],
)
def test_a_file_is_sent_as_what_its_name_says(path: str, kind: str) -> None:
    assert [entry.kind for entry in convert.user_entries("", [path])] == [kind]


@pytest.mark.parametrize("path", ["/up/Report.PDF", "/up/notes.md", "/up/data.csv", "/up/run.py"])
def test_documents_go_in_by_their_names(path):
    (message,) = convert.to_request(convert.user_entries("", [path]), ChatSettings()).messages
    name = path.rpartition("/")[2]
    assert message.parts == (Part("document", path=path, document=PageChoice(name), param=name),)
