"""The suite `estimates`: does what is said before a question is sent hold? (The composer's "first token in about …".)

Each question is estimated as the page does it (Engine.preflight), then asked at once. The engine learns from what came,
so the first questions of each kind have no estimate yet.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from engine.measure.bench import clips
from engine.measure.bench.plan import BenchSettings, Case, Fact, Group, MeasuredRound, Round, ScheduledQuestion, Step
from engine.measure.bench.questions import CLIP_QUESTION, OTHER_QUESTION, Medium, Question, picture, scene, words
from engine.measure.bench.samples import Sample
from engine.measure.drawings import PictureSize

WITHIN = 1.5
GOAL_PERCENT = 90.0
TEXT_WORDS = (30, 100, 300)
SIZES: tuple[PictureSize, ...] = ((224, 224), (448, 448), (1024, 768))
FRAMES = (4, 16)
FPS = 2.0
ANSWER_TOKENS = 4
RUNNING_TOKENS = 96


def groups(settings: BenchSettings) -> Sequence[Group]:
    """One group, for estimates of one kind of question are learnt among those of others."""
    texts = [_case(f"text of {count} words") for count in TEXT_WORDS]
    beside = _case("text beside a running answer")
    pictures = [_case(f"picture of {width}x{height}") for width, height in SIZES]
    again = _case("another question about a picture")
    moving = [_case(f"clip of {frames} frames", ("frames", frames)) for frames in FRAMES]
    path = settings.video or clips.default_clip()

    def asked(case: Case, text: str, *media: Medium, frames: int | None = None) -> ScheduledQuestion:
        question = Question(text, ANSWER_TOKENS, media=media, fps=FPS, max_frames=frames, estimated=True)
        return ScheduledQuestion(question, case)

    def steps(seed: tuple[object, ...]) -> Iterator[list[Step]]:
        """Those of one list stay together, in their order."""
        for case, count in zip(texts, TEXT_WORDS, strict=True):
            yield [(asked(case, words((*seed, count), count)),)]
        running = Question(words((*seed, "running"), 16), RUNNING_TOKENS, min_tokens=RUNNING_TOKENS)
        second = replace(asked(beside, words((*seed, "beside"), 100)), after_first=True)
        yield [(ScheduledQuestion(running, None), second)]
        if not settings.pictures:
            return
        for case, size in zip(pictures, SIZES, strict=True):
            medium = picture(scene(size, (*seed, size)))
            yield [
                (asked(case, f"{words((*seed, size, 'words'), 8)}?", medium),),
                (asked(again, OTHER_QUESTION, medium),),
            ]
        for case, frames in zip(moving, FRAMES, strict=True):
            clip = clips.cut(path, frames / FPS, (*seed, frames))
            yield [(asked(case, CLIP_QUESTION, clip, frames=frames),)]

    def make(number: int) -> Round:
        seed = (settings.seed, "estimates", number)
        together = list(steps(seed))
        random.Random(f"order/{seed}").shuffle(together)
        return tuple(step for steps_of in together for step in steps_of)

    media_cases = (*pictures, again, *moving) if settings.pictures else ()
    return (Group((*texts, beside, *media_cases), make, facts=facts),)


def facts(rounds: Sequence[MeasuredRound]) -> Sequence[Fact]:
    """What share of the estimates held, and how many questions had one."""
    samples = [sample for measured in rounds for _, sample in measured.samples]
    if not samples:
        return ()
    told = [sample for sample in samples if sample.expected_s is not None]
    share = Fact("questions with an estimate of the first token", 100 * len(told) / len(samples), "%")
    if not told:
        return (share,)
    held = sum(holds(sample) for sample in told)
    title = f"estimates of the first token that held within a factor of {WITHIN:g}"
    return (Fact(title, 100 * held / len(told), "%", GOAL_PERCENT), share)


def holds(sample: Sample) -> bool:
    """Whether an estimate was right."""
    expected_s = sample.expected_s or 0.0
    return expected_s / WITHIN <= sample.ttft_s <= expected_s * WITHIN


def _case(name: str, *labels: tuple[str, int]) -> Case:
    return Case("estimates", name, labels)
