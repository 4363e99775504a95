"""workbench.chat.convert: entries <-> requests and displayed messages."""

from __future__ import annotations

import pytest

from engine.errors import BadMedia, Unavailable
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


def test_retry_keeps_the_question_and_drops_the_answer():
    assert convert.before_answer(CHAT, 1) == (PICTURE, QUESTION)
    assert convert.before_answer(CHAT, 3) == (PICTURE, QUESTION)


def test_a_broken_medium_is_marked_by_its_name_and_no_longer_sent():
    other = ChatEntry("user", "image", path="/other/cat.png")
    error = BadMedia("cat.png: this is text.", param="cat.png")
    marked = convert.with_broken((PICTURE, QUESTION, ANSWER, other, QUESTION), error)
    assert [entry.broken for entry in marked] == ["", "", "", "this is text.", ""], "the last of its name"
    sent = convert.to_request(marked, ChatSettings()).messages
    assert [[part.kind for part in message.parts] for message in sent] == [["image", "text"], ["text"], ["text"]]
    assert convert.with_broken(marked, error)[0].broken == "this is text.", "then the one before it"
    assert convert.with_broken(CHAT, BadMedia("dog.png: no.", param="dog.png")) == CHAT
    assert convert.with_broken(CHAT, Unavailable("cat.png: no.", param="cat.png")) == CHAT


def test_taking_a_medium_out_takes_the_failed_answer_with_it():
    failed = ChatEntry("assistant", "error", "no")
    assert convert.without((PICTURE, QUESTION, failed), 0) == (QUESTION,)
    assert convert.without((PICTURE, failed), 0) == ()
    assert convert.without(CHAT, 0) == CHAT[1:], "an answer stays"
    for index in (1, 7, -1):
        assert convert.without(CHAT, index) == CHAT


def test_edit_keeps_the_picture():
    assert convert.edited(CHAT, 1, "What colour?") == (PICTURE, ChatEntry("user", "text", "What colour?"))
    assert convert.edited(CHAT, 0, "text for a picture") == (PICTURE,)


def test_undo_gives_the_last_turn_back():
    longer = (*CHAT, PICTURE, QUESTION, ANSWER, NOTE)
    assert convert.undone(longer, 5) == (CHAT, "What is it?", ["/up/cat.png"])
    assert convert.undone(CHAT, 1) == ((), "What is it?", ["/up/cat.png"])


@pytest.mark.parametrize("index", [-1, -100])
def test_an_index_that_means_nothing_is_refused(index):
    with pytest.raises(IndexError):
        convert.edited(CHAT, index, "x")


def test_an_index_beyond_the_end_is_the_last_question():
    assert convert.before_answer(CHAT, 99) == (PICTURE, QUESTION)


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
