"""The suite `peers`: one question of each kind, to this engine and to other programs in turns.

Each case compares the metrics that a user notices. The goal: no worse than another server, and hardly worse than a
library called without a server. Many streams, memory and start-up are measured on servers only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.measure.bench import clips
from engine.measure.bench.plan import BenchSettings, Case, Group, Proof, Round, ScheduledQuestion
from engine.measure.bench.questions import (
    CLIP_QUESTION,
    COLOUR_QUESTION,
    OTHER_QUESTION,
    Medium,
    Question,
    blank,
    colour,
    picture,
    scene,
    words,
)

STREAMS = 16
PROMPT_WORDS = 64
SIZE = (448, 448)
FRAMES, FPS = 8, 2.0
SHORT_TOKENS = 8


def groups(settings: BenchSettings) -> Sequence[Group]:
    """Memory is compared where it is largest: with many streams."""
    all_groups = [_one_stream(settings)]
    if settings.pictures:
        all_groups += [_picture(settings), _clip(settings)]
    all_groups += [_streams(settings, f"{STREAMS} streams of text", pictures=False)]
    if settings.pictures:
        all_groups += [_streams(settings, f"{STREAMS} streams, every second with a picture", pictures=True)]
    return [*all_groups, start_up(settings, "peers")]


def start_up(settings: BenchSettings, suite: str) -> Group:
    """One short question to a new process. Time to first token counts from the start of the process."""
    case = Case(suite, "process start to first token")

    def make(number: int) -> Round:
        question = Question(words((settings.seed, "startup", number), 8), SHORT_TOKENS, fresh=True)
        return ((ScheduledQuestion(question, case),),)

    return Group((case,), make, servers=True, parity=("ttft",))


def _one_stream(settings: BenchSettings) -> Group:
    case = Case("peers", f"one stream, text of {PROMPT_WORDS} words")

    def make(number: int) -> Round:
        seed = (settings.seed, "versus", number)
        question = Question(words(seed, PROMPT_WORDS), settings.max_tokens, claim="cold")
        return ((ScheduledQuestion(_with_sampling(question, settings, number), case),),)

    return Group((case,), make, parity=("generation_tps", "ttft"))


def _picture(settings: BenchSettings) -> Group:
    """A new picture, then the same picture with another question."""
    cold, warm = (Case("peers", f"a picture of {SIZE[0]}x{SIZE[1]}, {name}") for name in ("new", "asked about again"))

    def question(seed: object) -> Question:
        return Question(COLOUR_QUESTION, SHORT_TOKENS, media=(picture(scene(SIZE, seed)),), expect=colour(seed))

    def make(number: int) -> Round:
        first = replace(question((settings.seed, "versus", number)), expect="", claim="cold")
        second = replace(first, text=OTHER_QUESTION, claim="")
        return tuple(
            (ScheduledQuestion(_with_sampling(prompt, settings, number), case),)
            for prompt, case in ((first, cold), (second, warm))
        )

    def prove() -> Sequence[Proof]:
        with_picture = question((settings.seed, "versus", "proof"))
        return (Proof(cold, with_picture, replace(with_picture, media=(blank(SIZE),), expect="")),)

    return Group((cold, warm), make, prove, parity=("ttft",))


def _clip(settings: BenchSettings) -> Group:
    case = Case("peers", f"a clip of {FRAMES} frames, new", (("frames", FRAMES),))
    path = settings.video or clips.default_clip()
    template = Question(CLIP_QUESTION, SHORT_TOKENS, fps=FPS, max_frames=FRAMES, claim="cold")

    def make(number: int) -> Round:
        medium: Medium = clips.cut(path, FRAMES / FPS, (settings.seed, "versus", number))
        return ((ScheduledQuestion(_with_sampling(replace(template, media=(medium,)), settings, number), case),),)

    def prove() -> Sequence[Proof]:
        with_clip = replace(template, media=(clips.cut(path, FRAMES / FPS, (settings.seed, "versus", "proof")),))
        return (Proof(case, with_clip, replace(with_clip, media=(clips.blanked(path, FRAMES / FPS),))),)

    return Group((case,), make, prove, parity=("ttft",))


def _streams(settings: BenchSettings, name: str, *, pictures: bool) -> Group:
    """STREAMS questions at once."""
    case = Case("peers", name, (("streams", STREAMS),))

    def ask(number: int, stream: int) -> ScheduledQuestion:
        seed = (settings.seed, name, number, stream)
        media = (picture(scene(SIZE, seed)),) if pictures and stream % 2 else ()
        question = Question(words(seed, PROMPT_WORDS), settings.max_tokens, media=media, claim="cold")
        return ScheduledQuestion(_with_sampling(question, settings, number), case)

    def make(number: int) -> Round:
        return (tuple(ask(number, stream) for stream in range(STREAMS)),)

    last = pictures or not settings.pictures
    return Group((case,), make, servers=True, parity=("total_tps", "memory") if last else ("total_tps",))


def _with_sampling(question: Question, settings: BenchSettings, number: int) -> Question:
    return replace(question, temperature=settings.temperature, seed=settings.seed + number)
