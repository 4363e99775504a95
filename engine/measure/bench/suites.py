"""The suites by name. Text, pictures and clips are defined here, `cache` in reuse, `decisions` in decisions,
`concurrency` in streams, `structured` in forms, `speculation`, `estimates` and `equal` in files of these names, `peers`
and `startup` in versus. A suite's groups depend on the settings only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType

from engine.measure.bench import clips, decisions, equal, estimates, forms, reuse, speculation, streams, versus
from engine.measure.bench.plan import BenchSettings, Case, Group, Proof, Round, ScheduledQuestion, Suite
from engine.measure.bench.questions import (
    CLIP_QUESTION,
    COLOUR_QUESTION,
    Question,
    blank,
    colour,
    picture,
    scene,
    words,
)
from engine.measure.drawings import PictureSize

RESOLUTIONS: tuple[PictureSize, ...] = (
    *((224, 224), (336, 336), (448, 448), (512, 512), (672, 672)),
    *((768, 768), (896, 896), (1024, 1024), (1280, 720), (1920, 1080)),
)
QUICK_RESOLUTIONS: tuple[PictureSize, ...] = ((224, 224), (448, 448), (768, 768), (1024, 1024))

CLIPS: tuple[tuple[int, float], ...] = (
    *((2, 0.5), (4, 1.0), (6, 1.0), (8, 2.0), (12, 2.0), (16, 2.0), (24, 4.0), (32, 4.0), (64, 4.0)),
)
"""(frames, frames per second) of what the model gets."""

QUICK_CLIPS: tuple[tuple[int, float], ...] = ((4, 1.0), (8, 2.0), (16, 2.0))
QUICK_TOKENS = 64


def text_groups(settings: BenchSettings) -> Sequence[Group]:
    """Prompts of words."""
    case = Case("text", f"{settings.prompt_words} words", (("words", settings.prompt_words),))

    def make(number: int) -> Round:
        seed = (settings.seed, "text", number)
        question = Question(
            words(seed, settings.prompt_words),
            _max_tokens(settings),
            temperature=settings.temperature,
            seed=settings.seed + number,
            claim="cold",
        )
        return ((ScheduledQuestion(question, case),),)

    return (Group((case,), make),)


def image_groups(settings: BenchSettings) -> Sequence[Group]:
    """A picture at each resolution."""
    return [_image_group(settings, size) for size in (QUICK_RESOLUTIONS if settings.quick else RESOLUTIONS)]


def _image_group(settings: BenchSettings, size: PictureSize) -> Group:
    width, height = size
    case = Case("image", f"{width}x{height}", (("width", width), ("height", height), ("pixels", width * height)))

    def question(seed: object) -> Question:
        return Question(
            COLOUR_QUESTION,
            _max_tokens(settings),
            media=(picture(scene(size, seed)),),
            expect=colour(seed),
            claim="cold",
        )

    def make(number: int) -> Round:
        sampled = replace(
            question((settings.seed, size, number)), temperature=settings.temperature, seed=settings.seed + number
        )
        return ((ScheduledQuestion(sampled, case),),)

    def prove() -> Sequence[Proof]:
        with_picture = question((settings.seed, size, "proof"))
        return (Proof(case, with_picture, replace(with_picture, media=(blank(size),), expect="")),)

    return Group((case,), make, prove)


def video_groups(settings: BenchSettings) -> Sequence[Group]:
    """A clip at each number of frames: its first frames / fps seconds."""
    return [_video_group(settings, *clip) for clip in (QUICK_CLIPS if settings.quick else CLIPS)]


def _video_group(settings: BenchSettings, frames: int, fps: float) -> Group:
    case = Case("video", f"{frames} frames @ {fps:g} fps", (("frames", frames), ("fps", fps)))
    path = settings.video or clips.default_clip()
    template = Question(
        COLOUR_QUESTION if settings.video is None else CLIP_QUESTION,
        _max_tokens(settings),
        fps=fps,
        max_frames=frames,
        expect="red" if settings.video is None else "",
        claim="cold",
    )

    def make(number: int) -> Round:
        medium = clips.cut(path, frames / fps, (settings.seed, frames, fps, number))
        question = replace(template, media=(medium,), temperature=settings.temperature, seed=settings.seed + number)
        return ((ScheduledQuestion(question, case),),)

    def prove() -> Sequence[Proof]:
        with_clip = replace(template, media=(clips.cut(path, frames / fps, (settings.seed, frames, fps, "proof")),))
        return (Proof(case, with_clip, replace(with_clip, media=(clips.blanked(path, frames / fps),), expect="")),)

    return Group((case,), make, prove)


def startup_groups(settings: BenchSettings) -> Sequence[Group]:
    """From the start of a process to its first token."""
    return (versus.start_up(settings, "startup"),)


def _max_tokens(settings: BenchSettings) -> int:
    return min(settings.max_tokens, QUICK_TOKENS) if settings.quick else settings.max_tokens


SUITES = MappingProxyType(
    {
        suite.name: suite
        for suite in (
            Suite("text", "Text", "text", text_groups),
            Suite("image", "Pictures by resolution", "image", image_groups),
            Suite("video", "Clips by frames", "video", video_groups),
            Suite("cache", "What the prefix cache saves", "text", reuse.groups, sized=True),
            Suite("decisions", "Many questions about one picture", "image", decisions.groups),
            Suite("concurrency", "Many streams", "text", streams.groups, sized=True),
            Suite("structured", "Answers held to a form", "text", forms.groups, sized=True),
            Suite("speculation", "Answers that copy, several tokens at a time", "text", speculation.groups),
            Suite("estimates", "Estimates of the first token that held", "text", estimates.groups),
            Suite("equal", "Two equal runs, told apart or not", "text", equal.groups),
            Suite("peers", "Side by side with other programs", "text", versus.groups, servers=True),
            Suite("startup", "Process start to first token", "text", startup_groups, servers=True),
        )
    }
)
