"""Engine.likelihood: how likely an answer is, token by token, whatever the model would have said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.types import FrameSampling, Part, Request, Sampling
from tests.conftest import EngineFor
from tests.engine.drive import ask, chat, settled
from tests.pictures import picture

GREEDY = Sampling(temperature=0.0)


async def test_it_is_what_generating_the_answer_found(demo_engine) -> None:
    """Against the first token's log-probabilities as a real request reports them; nothing is likelier than greedy."""
    await demo_engine.ready()
    request = replace(chat(picture("red"), "What color is it?"), sampling=GREEDY, logprobs=3, max_tokens=16)
    answer = await ask(demo_engine, request)
    said = await demo_engine.likelihood(request, answer.token_ids)
    assert len(said) == len(answer.tokens) > 2
    assert said == pytest.approx([token.logprob for token in answer.tokens], abs=1e-3)
    (_, (second, logprob), _) = answer.tokens[0].top
    forced = await demo_engine.likelihood(request, (second, *answer.token_ids[1:]))
    assert forced[0] == pytest.approx(logprob, abs=1e-3), "the tokens are forced, not chosen"
    assert sum(forced) < sum(said)


async def test_another_picture_makes_the_answer_unlikely(demo_engine) -> None:
    """The twin: what is measured depends on what is seen."""
    await demo_engine.ready()
    red, blue = (replace(chat(picture(c), "What color is it?"), sampling=GREEDY) for c in ("red", "blue"))
    answer = await ask(demo_engine, red)
    assert sum(await demo_engine.likelihood(red, answer.token_ids)) > -1.0
    assert sum(await demo_engine.likelihood(blue, answer.token_ids)) < -3.0


async def test_it_leaves_no_trace(demo_engine) -> None:
    await demo_engine.ready()
    request = replace(chat(picture("green"), "What shape is it?"), sampling=GREEDY)
    answer = await ask(demo_engine, request)
    before = await settled(demo_engine)
    await demo_engine.likelihood(request, answer.token_ids)
    after = await settled(demo_engine)
    assert [record.id for record in after.recent] == [record.id for record in before.recent]
    assert after.cache.total_queries == before.cache.total_queries
    assert after.cache.blocks == before.cache.blocks


async def test_named_frames_are_the_ones_that_go_in(engine_for: EngineFor, tiny_model, clip_path) -> None:
    engine = await engine_for(tiny_model("qwen3_vl"))
    part = Part("video", path=str(clip_path), frames=FrameSampling(indices=(1, 2, 5, 7)))
    request: Request = chat("What?")
    request = replace(request, messages=(replace(request.messages[0], parts=(part, *request.messages[0].parts)),))
    done = (await ask(engine, request)).done
    assert [index for index, _ in done.media[0].frames] == [1, 2, 5, 7]
