"""Finding conversations, and how long it takes among many."""

from __future__ import annotations

import time

from workbench.conversations.owned import OwnedConversations
from workbench.conversations.search import excerpt, search
from workbench.conversations.types import Turn


def say(mine: OwnedConversations, *texts: str, title: str = "") -> str:
    made = mine.create(title)
    parent = None
    for number, text in enumerate(texts):
        turn = Turn(f"{made.id}-{number}", "assistant" if number % 2 else "user", parent, text)
        mine.add(made.id, (turn,))
        parent = turn.id
    return made.id


def found(mine: OwnedConversations, query: str) -> list[str]:
    return [hit.conversation.id for hit in search(mine, query)]


def test_words_are_found_wherever_they_stand(mine):
    zebra = say(mine, "What is a Zebra?", "A striped animal.")
    horse = say(mine, "And a horse?", "It has no stripes.", title="About horses")
    assert found(mine, "zebra") == [zebra]
    assert found(mine, "STRIPE") == [horse, zebra], "a part of a word, whatever its case; the last changed first"
    assert found(mine, "animal striped") == [zebra], "all words, in any order"
    assert found(mine, "zebra horse") == []
    assert found(mine, "about") == [horse], "in a title"
    assert found(mine, "no") == [horse], "shorter than the index has them"
    assert found(mine, "  ") == [horse, zebra]


def test_any_script_and_any_sign(mine):
    chinese = say(mine, "斑马是什么动物？")
    signs = say(mine, 'he said "50% off_now" \\o/')
    assert found(mine, "斑马") == [chinese] and found(mine, "什么动物") == [chinese]
    for query in ('"50%', "off_now", "\\o/", '"'):
        assert found(mine, query) == [signs], query
    for query in ('" OR "', "NEAR(", "*", "50* OR said", "off-now"):
        assert found(mine, query) == [], f"{query}: these are words, not the operators of the index"
    assert found(mine, "50%") == [signs] and found(mine, "5_%") == []


def test_what_is_deleted_or_of_others_is_not_found(mine):
    gone = say(mine, "a hidden zebra")
    mine.delete(gone)
    say(OwnedConversations(mine.store, "other"), "a foreign zebra")
    assert found(mine, "zebra") == []
    mine.restore(gone)
    assert found(mine, "zebra") == [gone]


def test_an_answer_is_found_once_it_has_ended(mine):
    conversation = say(mine, "question")
    answer = Turn("a", "assistant", f"{conversation}-0", state="writing")
    mine.add(conversation, (answer,))
    mine.write(Turn("a", "assistant", text="half a zebra", state="writing"))
    assert found(mine, "zebra") == []
    mine.write(Turn("a", "assistant", text="a whole zebra", state="done"))
    assert found(mine, "zebra") == [conversation]


def test_an_excerpt_is_a_line_around_the_word():
    text = "first line\n" + "padding " * 40 + "the  zebra\nis here " + "more " * 40
    line = excerpt(text, ["zebra"])
    assert "the zebra is here" in line and line.startswith("…") and line.endswith("…") and len(line) <= 92
    assert excerpt("a zebra", ["zebra"]) == "a zebra"
    assert excerpt("nothing", ["zebra"]) == ""


def test_five_hundred_conversations_are_searched_in_no_time(mine):
    """2,000 messages of 500 words each. The best of five, in this thread's own time: the machine may be busy."""
    words = [
        "lorem",
        "ipsum",
        "dolor",
        "sit",
        "amet",
        "consectetur",
        "adipiscing",
        "elit",
        "sed",
        "do",
        "eiusmod",
        "tempor",
    ]
    for number in range(500):
        texts = [" ".join(words[(number * turn + i) % len(words)] for i in range(500)) for turn in range(1, 5)]
        say(mine, *texts[:-1], f"{texts[-1]} needle{number}")
    for query in ("needle321", "tempor needle4", "do", "nothingofthekind"):
        times = []
        for _ in range(5):
            begun_s = time.thread_time()
            search(mine, query)
            times.append(time.thread_time() - begun_s)
        assert min(times) < 0.1, f"{query}: {min(times):.3f} s"
    assert len(found(mine, "needle321")) == 1
