"""The canary: true runs pass; a model that does not see, a lost receipt, a wrong label and a wrong size do not.

The sabotage is done to a real engine: its vision tower or its prompts are blinded, and the same suite is run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.assets import asset
from engine.config import EngineConfig
from engine.core import Engine
from engine.measure.bench.canary import ProofAnswers, distance, is_warm, judge, knows_shapes
from engine.measure.bench.plan import BenchSettings, Case, Group, ScheduledQuestion, Suite
from engine.measure.bench.questions import Question
from engine.measure.bench.remote import HttpTarget
from engine.measure.bench.result import Canary
from engine.measure.bench.run import Run
from engine.measure.bench.samples import Sample, SeenMedia
from engine.measure.bench.suites import SUITES
from engine.measure.bench.targets import EngineTarget, Target
from tests.engine.measure.bench.builders import sample

QUICK = BenchSettings(prompts=1, warmup=0, temperature=0.0, max_tokens=8, quick=True)
SMALL = replace(QUICK, only=("224x224",))


async def canary_of(target: Target, suite: str = "image", settings: BenchSettings = SMALL) -> Canary:
    run = Run([SUITES[suite]], [target], settings)
    async for _ in run.events():
        pass
    (point,) = run.result().points
    return point.canary


def outcome(canary: Canary) -> dict[str, bool | None]:
    return {check.name: check.ok for check in canary.checks}


ALL_WELL = {"seen": True, "cache": True, "sizes": True, "blank": True, "answers": True}


@pytest.mark.parametrize("suite", ["image", "video"])
async def test_a_true_run_passes(demo_engine: Any, suite: str) -> None:
    settings = SMALL if suite == "image" else replace(QUICK, only=("8 frames @ 2 fps",))
    await demo_engine.ready()
    assert outcome(await canary_of(EngineTarget(demo_engine), suite, settings)) == ALL_WELL


async def test_over_http_the_answers_are_looked_at(demo_server: Any) -> None:
    """There are no log-probabilities over HTTP, and the model's folder is not known, so no answer is owed."""
    canary = await canary_of(HttpTarget(demo_server.url))
    assert outcome(canary) == {**ALL_WELL, "answers": None}
    assert any("another" in check.said for check in canary.checks)


async def test_a_random_model_is_believed_to_see_but_owes_no_answer(engine_for: Any, tiny_model: Any) -> None:
    engine = await engine_for(tiny_model("qwen3_vl"))
    assert outcome(await canary_of(EngineTarget(engine))) == {**ALL_WELL, "answers": None}


def blind_tower(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every picture has the same features."""
    from engine.models.adapter import Adapter

    embed = Adapter._embed_once

    def blind(self: Any, ids: Any, inputs: dict[str, Any], first: int) -> Any:
        grey = {k: v * 0 if k in ("pixel_values", "pixel_values_videos") else v for k, v in inputs.items()}
        return embed(self, ids, grey, first)

    monkeypatch.setattr(Adapter, "_embed_once", blind)


def blind_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every picture becomes the first one before the processor gets it; receipts stay as they were."""
    from engine.prompt import processor

    first: list[Any] = []

    def same(loaded: Any, media: tuple[Any, ...]) -> list[Any]:
        from PIL import Image

        first[:] = first or [Image.fromarray(medium.pixels) for medium in media]
        return first[: len(media)]

    monkeypatch.setattr(processor, "_pictures", same)


@pytest.mark.parametrize("blind", [blind_tower, blind_prompts])
async def test_a_blind_model_is_caught(
    monkeypatch: pytest.MonkeyPatch, blind: Callable[[pytest.MonkeyPatch], None]
) -> None:
    """Tokens, sizes and cache are as they should be: only what the model makes of the picture tells."""
    blind(monkeypatch)
    engine = Engine(EngineConfig())
    engine.start()
    try:
        await engine.ready()
        canary = await canary_of(EngineTarget(engine))
    finally:
        engine.stop()
    assert canary.ok is False
    told = outcome(canary)
    assert told["blank"] is False and told["seen"] is True and told["sizes"] is True


@pytest.mark.parametrize("blind", [blind_tower])
async def test_a_blind_server_is_caught(
    monkeypatch: pytest.MonkeyPatch, blind: Callable[[pytest.MonkeyPatch], None], serve: Any
) -> None:
    """Over HTTP, by the answer alone."""
    from engine.api.app import create_app
    from engine.config import ServerConfig

    blind(monkeypatch)
    engine = Engine(EngineConfig())
    engine.start()
    try:
        with serve(create_app(engine, ServerConfig())) as url:
            assert outcome(await canary_of(HttpTarget(url)))["blank"] is False
    finally:
        engine.stop()


def repeated(claims: tuple[str, str]) -> Suite:
    """The same question twice, labelled so."""
    cases = (Case("text", "once"), Case("text", "again"))

    def make(number: int) -> Any:
        text = " ".join(f"{number}-{word}" for word in ["river", "stone", "light", "window", "garden"])
        return tuple(
            (ScheduledQuestion(Question(text, 2, claim=claim), case),)  # type: ignore[arg-type]
            for claim, case in zip(claims, cases, strict=True)
        )

    return Suite("text", "Twice", "text", lambda settings: [Group(cases, make)])


@pytest.mark.parametrize(("claims", "believed"), [(("cold", "warm"), [True, True]), (("warm", "cold"), [False, False])])
async def test_a_wrong_label_is_caught(demo_engine: Any, claims: tuple[str, str], believed: list[bool]) -> None:
    await demo_engine.ready()
    await demo_engine.cache.clear()
    run = Run([repeated(claims)], [EngineTarget(demo_engine)], BenchSettings(prompts=2, warmup=0))
    async for _ in run.events():
        pass
    assert [point.canary.ok for point in run.result().points] == believed


async def test_a_seed_that_was_asked_before_is_not_cold(demo_engine: Any) -> None:
    """The same pictures again: the second run says cold and was not."""
    await demo_engine.ready()
    settings = replace(SMALL, seed=424242)
    first, second = [await canary_of(EngineTarget(demo_engine), settings=settings) for _ in range(2)]
    assert outcome(first)["cache"] is True and outcome(second)["cache"] is False


def proven(**changes: Any) -> ProofAnswers:
    shown = sample(num_media=1, seen=(SeenMedia("image", 9, (48, 48)),), logprobs=((1, -0.1), (2, -3.0)), right=True)
    made = ProofAnswers(
        shown, shown, replace(shown, logprobs=((1, -2.0), (2, -0.5))), predicted=shown.seen, must_answer=True
    )
    return replace(made, **changes)


def told(which: str, samples: list[Sample], proof: ProofAnswers | str | None) -> bool | None:
    return {check.name: check.ok for check in judge(samples, proof).checks}[which]


def test_each_check_by_itself() -> None:
    good = proven()
    seeing = good.answer
    assert judge([seeing], good).ok is True
    assert told("seen", [replace(seeing, seen=())], good) is False, "a receipt is missing"
    assert told("seen", [replace(seeing, seen=(SeenMedia("image", 0, (48, 48)),))], good) is False, "it left no token"
    assert told("sizes", [replace(seeing, seen=(SeenMedia("image", 9, (32, 48)),))], good) is False
    assert told("sizes", [seeing], replace(good, predicted=None)) is None
    assert told("answers", [seeing], replace(good, answer=replace(seeing, right=False))) is False
    assert told("answers", [seeing], replace(good, answer=replace(seeing, right=False), must_answer=False)) is None
    assert told("blank", [seeing], replace(good, blanked=seeing)) is False
    assert told("blank", [seeing], "it cannot see") is None


def test_noise_is_not_taken_for_sight() -> None:
    """Blanking moves the log-probabilities no more than asking again does."""
    good = proven()
    jittered = replace(good.answer, logprobs=((1, -0.2), (2, -2.9)))
    assert told("blank", [], replace(good, repeated=jittered, blanked=jittered)) is False
    assert told("blank", [], replace(good, repeated=jittered)) is True


def test_without_receipts_the_length_of_the_prompt_tells() -> None:
    shown = sample(num_media=1, seen=None, prompt_tokens=60, text_sha256="a")
    without_media = replace(shown, prompt_tokens=50, num_media=0)
    proof = ProofAnswers(shown, shown, replace(shown, text_sha256="b"), without_media=without_media)
    assert told("seen", [shown], proof) is True
    assert told("seen", [shown], replace(proof, without_media=shown)) is False, "the picture added nothing"
    assert told("blank", [shown], proof) is True
    assert told("blank", [shown], replace(proof, blanked=shown)) is False
    assert told("blank", [shown], replace(proof, repeated=replace(shown, text_sha256="c"))) is None


def test_warm_and_cold() -> None:
    text = sample(prompt_tokens=100, cached_tokens=60)
    assert is_warm(text) and not is_warm(replace(text, cached_tokens=12))
    picture = sample(prompt_tokens=100, cached_tokens=12, seen=(SeenMedia("image", 80, (1, 1)),), num_media=1)
    assert not is_warm(picture) and is_warm(replace(picture, cached_tokens=85))
    assert is_warm(replace(picture, feature_hits=1)), "the encoder did not run"
    assert told("cache", [replace(text, claim="cold", cached_tokens=None)], None) is None


def test_distance() -> None:
    assert distance(((1, -1.0), (2, -2.0)), ((1, -1.5), (2, -2.0))) == 0.5
    assert distance(((1, -1.0), (2, -4.0)), ((3, -1.0), (2, -4.0))) == 3.0, "a token that is not there is unlikely"
    assert distance((), ((1, 0.0),)) == 0.0


def test_which_checkpoints_owe_an_answer(tmp_path: Path) -> None:
    assert knows_shapes(str(asset("demo-model"))) and not knows_shapes(str(tmp_path)) and not knows_shapes("")
    (tmp_path / "canary.json").write_text("{")
    assert not knows_shapes(str(tmp_path))
