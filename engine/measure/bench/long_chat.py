"""A case of the suite `cache`: what the old pictures of a chat cost the next turn.

A chat of screenshots and one of words with as many tokens, both with their KV stored, are asked on.
"""

from __future__ import annotations

from engine.measure.bench.plan import BenchSettings, Case, Contrast, Group, Round, ScheduledQuestion, Step
from engine.measure.bench.questions import Medium, PastTurn, Question, screenshot, words

TURNS, QUICK_TURNS = 60, 12
SIZE = (1920, 1080)
SEEN_PIXELS = 512 * 288
"""Of each screenshot, so that sixty fit into a short context. The files are as large as ever."""

TURN_WORDS = 8
ASKED_ON = 3
"""Questions about each chat in a round."""

NOTHING_MORE = 1 / 1.2
"""A chat of words takes at least this share of the time of one of screenshots."""


def screenshot_of(seed: object) -> Medium:
    """One of the chat's. Takes some 30 ms."""
    return screenshot(SIZE, seed, SEEN_PIXELS)


def group(settings: BenchSettings) -> Group:
    """Both chats, each read once and then asked on."""
    turns = QUICK_TURNS if settings.quick else TURNS
    of_words = Case("cache", f"turn {turns + 1} after {turns} turns of words")
    of_shots = Case("cache", f"turn {turns + 1} after {turns} screenshots")

    num_words = TURN_WORDS + settings.words_of(settings.tokens_per_shot)

    def make(number: int) -> Round:
        seed = (settings.seed, "long chat", number)
        shots = tuple(_turn((*seed, i), TURN_WORDS, screenshot_of((*seed, i))) for i in range(turns))
        texts = tuple(_turn((*seed, i), num_words) for i in range(turns))
        return (*_asked_on(texts, of_words, seed), *_asked_on(shots, of_shots, seed))

    same = Contrast(f"first token of turn {turns + 1}: words / screenshots", "ttft", of_words, of_shots, NOTHING_MORE)
    num_tokens = turns * settings.tokens_of(num_words + TURN_WORDS)
    return Group((of_words, of_shots), make, contrasts=(same,), num_tokens=num_tokens)


def _turn(seed: object, num_words: int, *media: Medium) -> PastTurn:
    return PastTurn(words(seed, num_words), words((seed, "answer"), TURN_WORDS), media)


def _asked_on(turns: tuple[PastTurn, ...], case: Case, seed: tuple[object, ...]) -> tuple[Step, ...]:
    """The last of these turns, not measured, so that all of them are read; then new questions."""
    *before, last = turns
    read = Question(last.text, 1, media=last.media, earlier=tuple(before))
    asked = [Question(words((*seed, "on", i), TURN_WORDS), 8, earlier=turns, claim="warm") for i in range(ASKED_ON)]
    return ((ScheduledQuestion(read, None),), *((ScheduledQuestion(question, case),) for question in asked))
