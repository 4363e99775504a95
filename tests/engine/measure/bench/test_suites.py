"""What the suites ask: repeatable, all different, of the size that was asked for; and what their numbers come to."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from engine.errors import BadMedia, BadRequest
from engine.measure.bench import clips, estimates, long_chat, reuse, streams
from engine.measure.bench.command import SUITE_NAMES
from engine.measure.bench.plan import SPECULATION_OFF, BenchSettings, Case, MeasuredRound, ScheduledQuestion
from engine.measure.bench.questions import COLOURS, Medium, colour, mark, picture, scene, words
from engine.measure.bench.report import table
from engine.measure.bench.result import Result
from engine.measure.bench.run import WARM_UP, Run
from engine.measure.bench.suites import CLIPS, QUICK_CLIPS, QUICK_RESOLUTIONS, RESOLUTIONS, SUITES
from engine.measure.bench.targets import EngineTarget, Status
from engine.runtime.estimates.track_record import TrackRecord
from engine.types import FrameSampling, SpeculationConfig
from tests.conftest import EngineFor
from tests.engine.measure.bench.builders import sample

SETTINGS = BenchSettings(seed=7)


def asks(suite: str, settings: BenchSettings = SETTINGS, number: int = 0) -> list[ScheduledQuestion]:
    groups = SUITES[suite].groups(settings)
    return [ask for group in groups for step in group.make(number) for ask in step]


def test_what_each_suite_asks_by_size_length_and_streams() -> None:
    assert len(RESOLUTIONS) == 10 and RESOLUTIONS[0] == (224, 224) and RESOLUTIONS[-1] == (1920, 1080)
    assert len(QUICK_RESOLUTIONS) == 4 and set(QUICK_RESOLUTIONS) <= set(RESOLUTIONS)
    assert len(CLIPS) == 9 and (CLIPS[0], CLIPS[-2], CLIPS[-1]) == ((2, 0.5), (32, 4.0), (64, 4.0))
    assert len(QUICK_CLIPS) == 3 and set(QUICK_CLIPS) <= set(CLIPS)
    assert streams.STREAMS == (1, 2, 4, 8, 16, 32)
    assert tuple(SUITES) == SUITE_NAMES


@pytest.mark.parametrize("suite", [name for name in SUITE_NAMES if name != "video"])
def test_rounds_repeat_and_differ(suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal for equal seeds; else a prefix cache would answer part of the second round from the first."""
    monkeypatch.setattr(long_chat, "QUICK_TURNS", 3)
    settings = BenchSettings(seed=7, quick=True)
    first, again = asks(suite, settings), asks(suite, settings)
    assert [ask.question for ask in first] == [ask.question for ask in again]
    for other in (
        asks(suite, settings, 1),
        asks(suite, settings, WARM_UP),
        asks(suite, BenchSettings(seed=8, quick=True)),
    ):
        beginnings = [_beginning(ask) for ask in first]
        assert set(beginnings).isdisjoint(_beginning(ask) for ask in other)


def _beginning(ask: ScheduledQuestion) -> Any:
    question = ask.question
    if question.system:
        return question.system.split()[0]
    first = question.earlier[0] if question.earlier else question
    return first.media[0].data if first.media else first.text.split()[0]


def test_a_long_chat_of_words_is_as_long_as_one_of_screenshots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is read once, without being measured, and then asked on with something new."""
    monkeypatch.setattr(long_chat, "QUICK_TURNS", 3)
    steps = long_chat.group(BenchSettings(seed=7, quick=True, tokens_per_shot=70, tokens_per_word=1.4)).make(0)
    assert [step[0].case is None for step in steps] == [True, False, False, False] * 2
    for read, *asked in (steps[:4], steps[4:]):
        whole = read[0].question
        for (ask,) in asked:
            *before, last = ask.question.earlier
            assert (*before,) == whole.earlier and (last.text, last.media) == (whole.text, whole.media)
        assert len({ask.question.text for (ask,) in asked}) == len(asked)
    words_turn, shots_turn = (steps[at][0].question.earlier[0] for at in (1, 5))
    assert len(words_turn.text.split()) - len(shots_turn.text.split()) == 50 and not words_turn.media
    (shot,) = shots_turn.media
    assert Image.open(io.BytesIO(shot.data)).size == long_chat.SIZE and len(shot.data) > 100_000
    assert steps[5][0].question.num_media == 3


def test_pictures() -> None:
    drawing = scene((64, 48), "a")
    assert drawing.size == (64, 48) and drawing.getpixel((32, 24)) == COLOURS[colour("a")]
    (ask,) = [ask for ask in asks("image") if ask.case and ask.case.name == "1280x720"]
    assert Image.open(io.BytesIO(ask.question.media[0].data)).size == (1280, 720)
    assert ask.question.media[0].url.startswith("data:image/png;base64,") and ask.question.expect in COLOURS
    marks = {picture(mark(Image.new("RGB", (64, 64)), seed)).data for seed in range(50)}
    assert len(marks) == 50
    assert len(words("x", 37).split()) == 37 and words("x", 5) != words("y", 5)


def _decoded(medium: Medium, frames: FrameSampling) -> Any:
    from engine.config import MediaLimits
    from engine.media.read_medium import load_media
    from engine.types import Part

    return load_media(Part("video", url=medium.url), MediaLimits(), frames)


def test_clips_have_the_frames_that_were_asked_for(tmp_path: Path) -> None:
    first = clips.cut(clips.default_clip(), 4.0, "a")
    again, other = clips.cut(clips.default_clip(), 4.0, "a"), clips.cut(clips.default_clip(), 4.0, "b")
    sampling = FrameSampling(fps=2.0, max_frames=8)
    media = [_decoded(medium, sampling) for medium in (first, again, other)]
    assert {len(one.frames) for one in media} == {8} and media[0].duration_s == pytest.approx(4.0, abs=0.2)
    assert media[0].sha256 == media[1].sha256 != media[2].sha256
    grey = _decoded(clips.blanked(clips.default_clip(), 4.0), sampling)
    assert grey.pixels.shape == media[0].pixels.shape and int(grey.pixels.std()) < 3 < int(media[0].pixels.std())
    longest = _decoded(clips.cut(clips.default_clip(), 16.0, "a"), FrameSampling(fps=4.0, max_frames=64))
    assert len(longest.frames) == 64
    (tmp_path / "no.mp4").write_bytes(b"no clip")
    with pytest.raises(BadMedia, match=r"no\.mp4"):
        clips.cut(tmp_path / "no.mp4", 1.0, "a")


def test_arrivals_are_poisson() -> None:
    """The first at once; the mean gap is 1 / rate, its deviation too."""
    times = streams.arrivals(4000, "seed")
    gaps = [b - a for a, b in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert times[0] == 0 and mean == pytest.approx(1 / streams.ARRIVALS_PER_S, rel=0.08)
    assert deviation == pytest.approx(mean, rel=0.1)


def test_a_gap_is_told_in_chunks() -> None:
    """Pieces at 0.1, 0.2, 0.3, 0.9, 1.0 and 6.0 s; from 0.2 to 0.95 s a prompt of 10 chunks is read: a gap of 8."""
    running, long = Case("concurrency", "running"), Case("concurrency", "long")
    stream = replace(sample(0.1), itl_s=(0.1, 0.1, 0.6, 0.1, 5.0))
    prompt = sample(0.75, started_s=0.2, prompt_tokens=10 * streams.CHUNK_TOKENS)
    taken = MeasuredRound(((running, stream), (long, prompt)), Status(), ())
    ((gap_s, chunks),) = streams.gaps_of(taken, running, long)
    assert gap_s == pytest.approx(0.6) and chunks == pytest.approx(8.0), "the 5 s after the prompt do not count"


def test_memory_saved() -> None:
    """The first user's KV is 100, nine more add 2 each: 118 instead of 1,000."""
    held = [Status(kv_bytes=50 + n) for n in (100, *(100 + 2 * user for user in range(1, 10)))]
    assert reuse.kv_saved(MeasuredRound((), Status(kv_bytes=50), tuple(held))) == pytest.approx(1 - 118 / 1000)
    assert reuse.kv_saved(MeasuredRound((), Status(), (Status(),))) is None
    assert reuse.kv_saved(MeasuredRound((), Status(kv_bytes=50), (Status(kv_bytes=40), Status(kv_bytes=60)))) is None


async def measured(engine: Any, suite: str, only: Sequence[str], **settings: Any) -> Result:
    await engine.ready()
    asked = BenchSettings(prompts=1, warmup=0, quick=True, temperature=0.0, only=tuple(only), **settings)
    return await run_of(engine, suite, asked)


async def run_of(engine: Any, suite: str, settings: BenchSettings) -> Result:
    run = Run([SUITES[suite]], [EngineTarget(engine)], settings)
    async for _ in run.events():
        pass
    return run.result()


async def test_the_cache_suite_on_the_demo_model(demo_engine: Any) -> None:
    """Labels hold, the system prompt is stored once, and a repeat is faster than what it repeats."""
    only = ("2,000-token system prompt, first user", "1024x1024 picture, cold", "clip of 64 frames, cold")
    result = await measured(demo_engine, "cache", only)
    assert result.canary is True and all(point.canary.ok for point in result.points)
    tokens = [sample.prompt_tokens for point in result.points[:1] for sample in point.samples]
    assert all(abs(count - 2040) < 200 for count in tokens), tokens
    by_title = {one.title: one.ratio.value for one in result.compared}
    assert by_title["first token, 2,000-token system prompt: first user / the next"] > 2
    assert by_title["first token: clip of 64 frames, cold / exact repeat"] > 1.2
    ((_, saved),) = result.facts
    assert saved.unit == "%" and 60 < saved.value < 75, "four users can save at most three quarters"


async def test_old_screenshots_on_the_demo_model(demo_engine: Any) -> None:
    """Both chats are about as long, stored whole, and every picture is there."""
    result = await measured(demo_engine, "cache", ("turn 13 after 12 screenshots",))
    assert result.canary is True
    (of_words, of_shots) = (point.samples for point in result.points)
    assert len(of_words) == len(of_shots) == long_chat.ASKED_ON
    assert {sample.num_media for sample in of_shots} == {12} and {sample.num_media for sample in of_words} == {0}
    lengths = [sample.cached_tokens for sample in (of_words[0], of_shots[0])]
    assert lengths[1] == pytest.approx(lengths[0], rel=0.15), lengths
    (ratio,) = result.compared
    assert ratio.metric == "ttft" and ratio.goal == pytest.approx(1 / 1.2)


async def test_concurrency_on_the_demo_model(demo_engine: Any) -> None:
    result = await measured(demo_engine, "concurrency", ("1 stream", "4 streams"), max_tokens=8)
    one, four = result.points
    assert (len(one.samples), len(four.samples)) == (1, 4) and result.canary is True
    assert {sample.num_media for sample in four.samples} == {0, 1}, "text and pictures"
    started = sorted(sample.started_s for sample in four.samples)
    assert started[-1] - started[0] < max(sample.started_s + sample.e2e_s for sample in four.samples) - started[0]
    (ratio,) = result.compared
    assert ratio.metric == "total_tps" and (ratio.over, ratio.under) == ("4 streams", "1 stream")


async def test_a_row_is_named_by_the_frames_that_were_seen(demo_engine: Any, tmp_path: Path) -> None:
    """Of three seconds at two frames per second the model gets six, whatever is asked for."""
    short = tmp_path / "short.mp4"
    short.write_bytes(clips.cut(clips.default_clip(), 3.0, 0).data)
    cases = tuple(f"{frames} frames @ 2 fps" for frames in (8, 16))
    result = await measured(demo_engine, "video", (*cases, "4 frames @ 1 fps"), max_tokens=2, video=short)
    named_by_what_was_seen(result)
    assert [point.name for point in result.points[1:]] == [f"6 frames, asked for {case}" for case in cases]
    assert [point["labels"]["frames"] for point in result.json()["points"][1:]] == [6, 6]
    assert "6 frames, asked for 8 frames @ 2 fps" in table(result)


def named_by_what_was_seen(result: Result) -> None:
    for point in result.points:
        seen = {medium.frames for one in point.samples for medium in one.seen or ()}
        assert {int(point.name.split()[0])} == seen, f"{point.name} saw {seen}"


async def test_sabotage_a_row_named_by_what_was_asked_is_seen(demo_engine: Any, tmp_path: Path) -> None:
    short = tmp_path / "short.mp4"
    short.write_bytes(clips.cut(clips.default_clip(), 3.0, 0).data)
    result = await measured(demo_engine, "video", ("8 frames @ 2 fps",), max_tokens=2, video=short)
    (point,) = result.points
    bare = replace(point, case=replace(point.case, labels=()))  # nothing to hold what was seen against
    with pytest.raises(AssertionError, match="8 frames @ 2 fps saw"):
        named_by_what_was_seen(replace(result, points=(bare,)))


def test_the_long_prompt_fits_a_short_context() -> None:
    for context, length in ((None, 4000), (16384, 4000), (4096, 3400), (2048, 1700), (512, 1000)):
        settings = BenchSettings(seed=7, context=context)
        beside = streams.groups(settings)[1]
        assert f"{length:,}-token prompt" in beside.cases[0].name
        num_words = len(beside.make(0)[0][1].question.text.split())
        assert num_words == pytest.approx(length / settings.tokens_per_word, abs=2)


async def test_what_a_context_has_no_room_for_is_said_and_not_asked(demo_engine: Any) -> None:
    settings = BenchSettings(prompts=1, warmup=0, max_tokens=8, quick=True, pictures=False, context=900)
    result = await run_of(demo_engine, "structured", settings)
    assert not [point for point in result.points if "1,024-token" in point.name] and result.points
    note = "with 1 answer to a 1,024-token prompt, 4 answers to a 1,024-token prompt: about 1,024 tokens are needed"
    assert [words for words in result.notes if note in words and "its context has 900" in words]
    with pytest.raises(BadRequest, match="about 1,024 tokens are needed"):
        await run_of(demo_engine, "structured", replace(settings, only=("4 answers to a 1,024-token prompt",)))


async def test_structured_answers_on_the_demo_model(demo_engine: Any) -> None:
    """As many tokens free as in JSON, and several answers from one prompt."""
    result = await measured(demo_engine, "structured", (), max_tokens=12)
    by_case = {point.case.name: point.samples for point in result.points}
    for name in ("free, 8 streams", "JSON, 8 streams"):
        assert [sample.completion_tokens for sample in by_case[name]] == [12] * 8
    (one,), (many,) = (by_case[f"{count} to a 1,024-token prompt"] for count in ("1 answer", "4 answers"))
    assert (one.completion_tokens, many.completion_tokens) == (1, 4)
    assert abs(one.prompt_tokens - many.prompt_tokens) < 200
    assert [compared.goal for compared in result.compared] == [0.9, 0.9, 0.87]


async def test_speculation_on_the_demo_model(demo_engine: Any, engine_for: EngineFor) -> None:
    """The same answers with and without, and each ratio beside its goal."""
    fast = await engine_for("demo", speculation=SpeculationConfig())
    targets = [EngineTarget(fast), EngineTarget(demo_engine, SPECULATION_OFF)]
    asked = BenchSettings(prompts=1, warmup=0, max_tokens=24, seed=7)
    run = Run([SUITES["speculation"]], targets, asked)
    async for _ in run.events():
        pass
    result = run.result()
    with_it, without = (
        [sample.text_sha256 for point in result.points if point.target == name for sample in point.samples]
        for name in result.targets
    )
    assert with_it == without and len(with_it) == 1 + 1 + 8
    goals = {one.case: (one.metric, one.goal, one.at_most) for one in result.compared if one.goal}
    assert goals == {
        "copied text": ("generation_tps", 1.5, False),
        "fresh text": ("generation_tps", 0.98, False),
        "8 streams": ("total_tps", 1.0, False),
    }


def test_the_share_of_estimates_that_held_is_counted() -> None:
    """Nine of ten within a factor of 1.5, and one question that had no estimate. Twin: one more is wrong."""
    case = Case("estimates", "text of 30 words")
    right = [replace(sample(0.1), expected_s=expected_s) for expected_s in (0.1, 0.149, 0.068, *[0.09] * 6)]
    wrong = replace(sample(0.1), expected_s=0.16)

    def facts(*samples: Any) -> list[float]:
        taken = MeasuredRound(tuple((case, one) for one in samples), Status(), ())
        return [fact.value for fact in estimates.facts([taken])]

    assert facts(*right, wrong, sample(0.1)) == pytest.approx([90.0, 1000 / 11])
    (held, _) = estimates.facts([MeasuredRound(tuple((case, one) for one in (*right, wrong)), Status(), ())])
    assert held.reached and held.goal == 90.0
    assert facts(*right, wrong, wrong)[0] < 90.0
    assert facts(sample(0.1)) == [0.0] and estimates.facts([]) == ()


async def test_estimates_on_the_demo_model(demo_engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kind of question is asked, and each has the estimate that was told just before it."""
    monkeypatch.setattr(TrackRecord, "trusts", lambda *_: True)  # how well they hold depends on what else runs here
    result = await measured(demo_engine, "estimates", (), max_tokens=4)
    samples = [sample for point in result.points for sample in point.samples]
    assert len({point.case.name for point in result.points}) == len(result.points) == 10
    assert sum(sample.expected_s is not None for sample in samples) > len(samples) / 2
    values = {fact.title: fact.value for _, fact in result.facts}
    assert values["questions with an estimate of the first token"] > 50
    held = [sample for sample in samples if sample.expected_s and estimates.holds(sample)]
    told = [sample for sample in samples if sample.expected_s]
    assert values["estimates of the first token that held within a factor of 1.5"] == pytest.approx(
        100 * len(held) / len(told)
    )


async def test_equal_runs_on_the_demo_model(demo_engine: Any) -> None:
    """Five rounds make a try; each question is asked as two runs would."""
    await demo_engine.ready()
    asked = BenchSettings(prompts=5, warmup=0, temperature=0.0, max_tokens=4, pictures=False)
    run = Run([SUITES["equal"]], [EngineTarget(demo_engine)], asked)
    async for _ in run.events():
        pass
    ((_, fact),) = run.result().facts
    assert "of 1" in fact.title and fact.value in (0.0, 100.0) and fact.goal == 95.0
    assert [len(point.samples) for point in run.result().points] == [5] * 4
