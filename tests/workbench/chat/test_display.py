"""workbench.chat.display: entries -> what the page draws."""

from __future__ import annotations

from dataclasses import replace

from engine.types import MediaReceipt, Request
from workbench.chat.convert import ChatEntry
from workbench.chat.display import displayed, displayed_live

PICTURE = ChatEntry("user", "image", path="/up/ca#t?.png")
QUESTION = ChatEntry("user", "text", "What is <b>it</b>?")
ANSWER = ChatEntry("assistant", "text", "A **cat**.")
SEEN = MediaReceipt("image", 9, (8, 8), (8, 8), 12, "ab" * 32, param="ca#t?.png")
NOTE = ChatEntry(
    "assistant", "note", "1,204 tokens in (1,100 from cache) · 5 out", request=Request(id="r1"), media=(SEEN,)
)
CHAT = (PICTURE, QUESTION, ANSWER, NOTE)


def test_a_turn_is_what_one_side_says_and_its_parts_know_their_entry():
    drawn = displayed((*CHAT, QUESTION))
    assert [turn["role"] for turn in drawn] == ["user", "assistant", "user"]
    assert [[part["at"] for part in turn["parts"]] for turn in drawn] == [[0, 1], [2, 3], [4]]
    assert drawn[0]["parts"][0] | {"at": 0} == {
        "at": 0,
        "kind": "image",
        "name": "ca#t?.png",
        "path": "/up/ca#t?.png",
        "broken": "",
    }


def test_the_users_words_stay_as_typed_and_the_models_become_trees():
    (user, model) = displayed((QUESTION, ANSWER))
    assert user["parts"][0] == {"at": 0, "kind": "text", "text": "What is <b>it</b>?"}
    assert model["parts"][0]["blocks"] == [["p", {}, "A ", ["strong", {}, "cat"], "."]]


def test_what_came_from_the_cache_leads_to_the_strip_of_its_request():
    note = displayed(CHAT)[1]["parts"][1]
    assert note["words"] == ["1,204 tokens in (", "1,100 from cache", ") · 5 out"]
    assert note["request"] == "r1"
    without = ChatEntry("assistant", "note", NOTE.text)
    assert displayed((without,))[0]["parts"][0]["words"] == [NOTE.text]


def test_a_receipt_is_about_the_message_before_it():
    first, second = displayed((*CHAT, QUESTION, ANSWER, NOTE))[1::2]
    assert first["parts"][1]["receipt"]["summary"].startswith("picture 8 × 8")
    assert second["parts"][1]["receipt"]["summary"] == "1 picture of earlier messages · 12 tokens"


def test_the_live_answer_has_the_same_parts_as_the_whole_chat():
    thought = ChatEntry("assistant", "reasoning", "Hm.", duration_s=2.0)
    live = displayed_live((thought, ANSWER), lambda text: [text])
    whole = displayed((QUESTION, thought, ANSWER))[1]["parts"]
    assert [{**part, "at": 0} for part in live[:1]] == [{**part, "at": 0} for part in whole[:1]]
    assert live[1]["blocks"] == ["A **cat**."]


def test_a_turn_with_versions_has_arrows():
    outline = [{"turn": "q"}, {"turn": "q", "place": 2, "of": 3}, {"turn": "a"}, {"turn": "a"}]
    user, model = displayed(CHAT, outline)
    assert user["branches"] == [outline[1]]
    assert model["branches"] == []


def test_words_of_an_error_are_one_line():
    error = ChatEntry("assistant", "error", "<img src=x>.png\n\nis **no** picture")
    assert displayed((error,))[0]["parts"][0]["words"] == ["<img src=x>.png is **no** picture"]


def test_a_clip_knows_the_frames_that_its_answer_was_given_for():
    clip = ChatEntry("user", "video", path="/up/walk.mp4")
    broken = ChatEntry("user", "video", path="/up/bad.mp4", broken="it cannot be read")
    walked = MediaReceipt(
        "video", 9, (8, 8), (8, 8), 12, "cd" * 32, ((0, 0.0), (30, 1.25)), duration_s=2.5, param="walk.mp4"
    )
    note = replace(NOTE, media=(SEEN, walked))
    user = displayed((PICTURE, broken, clip, QUESTION, ANSWER, note))[0]["parts"]
    assert (user[2]["frames"], user[2]["duration_s"]) == ([0.0, 1.25], 2.5)
    assert all("frames" not in part for part in (user[0], user[1], user[3]))
    later = displayed((PICTURE, broken, clip, QUESTION, ANSWER, note, QUESTION, ANSWER, note))
    assert later[0]["parts"][2]["frames"] == [0.0, 1.25]
    assert "frames" not in displayed((clip, QUESTION, ANSWER))[0]["parts"][0]
