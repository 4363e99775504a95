"""The suite `peers`: one question of each kind, to us and to other programs in turns.

Each case has a number that a person feels, and a goal: no worse than another server, hardly worse than a library that
is called without a server. Of a server alone are asked: many streams, its memory, its start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.measure.bench import clips
from engine.measure.bench.plan import Ask, BenchSettings, Case, Group, Proof, Round
from engine.measure.bench.questions import (
    CLIP_QUESTION,
    OTHER_QUESTION,
    SHOWN,
    Medium,
    Question,
    blank,
    colour,
    png,
    scene,
    words,
)

STREAMS = 16
PROMPT_WORDS = 64
SIZE = (448, 448)
FRAMES, FPS = 8, 2.0
SHORT_TOKENS = 8


def groups(settings: BenchSettings) -> Sequence[Group]:
    """Memory is looked at where there is the most of it: with many streams."""
    found = [_one_stream(settings)]
    if settings.pictures:
        found += [_picture(settings), _clip(settings)]
    found += [_streams(settings, f"{STREAMS} streams of text", pictures=False)]
    if settings.pictures:
        found += [_streams(settings, f"{STREAMS} streams, every second with a picture", pictures=True)]
    return [*found, start_up(settings, "peers")]


def start_up(settings: BenchSettings, suite: str) -> Group:
    """One short question to a process that has just been started; its time to first token begins with the process."""
    case = Case(suite, "process start to first token")

    def make(number: int) -> Round:
        asked = Question(words((settings.seed, "startup", number), 8), SHORT_TOKENS, fresh=True)
        return ((Ask(asked, case),),)

    return Group((case,), make, servers=True, even=("ttft",))


def _one_stream(settings: BenchSettings) -> Group:
    case = Case("peers", f"one stream, text of {PROMPT_WORDS} words")

    def make(number: int) -> Round:
        seed = (settings.seed, "versus", number)
        asked = Question(words(seed, PROMPT_WORDS), settings.max_tokens, claim="cold")
        return ((Ask(_settled(asked, settings, number), case),),)

    return Group((case,), make, even=("generation_tps", "ttft"))


def _picture(settings: BenchSettings) -> Group:
    """A picture nobody has seen, then the same with another question."""
    cold, warm = (Case("peers", f"a picture of {SIZE[0]}x{SIZE[1]}, {name}") for name in ("new", "asked about again"))

    def question(seed: object) -> Question:
        return Question(SHOWN, SHORT_TOKENS, media=(png(scene(SIZE, seed)),), expect=colour(seed))

    def make(number: int) -> Round:
        asked = replace(question((settings.seed, "versus", number)), expect="", claim="cold")
        again = replace(asked, text=OTHER_QUESTION, claim="")
        return tuple((Ask(_settled(one, settings, number), case),) for one, case in ((asked, cold), (again, warm)))

    def prove() -> Sequence[Proof]:
        shown = question((settings.seed, "versus", "proof"))
        return (Proof(cold, shown, replace(shown, media=(png(blank(SIZE)),), expect="")),)

    return Group((cold, warm), make, prove, even=("ttft",))


def _clip(settings: BenchSettings) -> Group:
    case = Case("peers", f"a clip of {FRAMES} frames, new")
    path = settings.video or clips.default_clip()
    asked = Question(CLIP_QUESTION, SHORT_TOKENS, fps=FPS, max_frames=FRAMES, claim="cold")

    def make(number: int) -> Round:
        medium: Medium = clips.cut(path, FRAMES / FPS, (settings.seed, "versus", number))
        return ((Ask(_settled(replace(asked, media=(medium,)), settings, number), case),),)

    def prove() -> Sequence[Proof]:
        shown = replace(asked, media=(clips.cut(path, FRAMES / FPS, (settings.seed, "versus", "proof")),))
        return (Proof(case, shown, replace(shown, media=(clips.blanked(path, FRAMES / FPS),))),)

    return Group((case,), make, prove, even=("ttft",))


def _streams(settings: BenchSettings, name: str, *, pictures: bool) -> Group:
    """All at once."""
    case = Case("peers", name, (("streams", STREAMS),))

    def ask(number: int, stream: int) -> Ask:
        seed = (settings.seed, name, number, stream)
        media = (png(scene(SIZE, seed)),) if pictures and stream % 2 else ()
        asked = Question(words(seed, PROMPT_WORDS), settings.max_tokens, media=media, claim="cold")
        return Ask(_settled(asked, settings, number), case)

    def make(number: int) -> Round:
        return (tuple(ask(number, stream) for stream in range(STREAMS)),)

    last = pictures or not settings.pictures
    return Group((case,), make, servers=True, even=("total_tps", "memory") if last else ("total_tps",))


def _settled(question: Question, settings: BenchSettings, number: int) -> Question:
    return replace(question, temperature=settings.temperature, seed=settings.seed + number)
