"""core: the stream's promises and limits; bad input is refused and the engine goes on."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.config import EngineConfig, MediaLimits, ModelSpec
from engine.errors import BadMedia, BadRequest, Busy, ContextOverflow, EngineError, Internal
from engine.types import Done, Message, Part, Request, Sampling
from tests.conftest import EngineFor
from tests.engine.drive import GREEDY, Tape, ask, chat, settled
from tests.pictures import picture

TinyModel = Callable[..., Path]


def config(source: Path | str, **settings: Any) -> EngineConfig:
    return EngineConfig(model=ModelSpec(str(source)), **settings)


@pytest.fixture
async def engine(engine_for: EngineFor, tiny_model: TinyModel) -> Any:
    """A text model: what is said here holds for every family."""
    return await engine_for(tiny_model("llama"))


@pytest.fixture
async def seeing(engine_for: EngineFor, tiny_model: TinyModel) -> Any:
    return await engine_for(tiny_model("qwen3_vl"))


# -- a whole answer ----------------------------------------------------------------------------------------------------


async def test_usage_timing_and_ending_are_true(engine: Any, tape: Tape) -> None:
    answer = await ask(engine, chat("Count the words of this prompt.", max_tokens=9, id="counted"))
    usage, timing = answer.done.usage, answer.done.timing
    assert usage.prompt_tokens == len(tape.prompts["counted"]) == timing.prompt_tokens
    assert usage.completion_tokens == len(tape.tokens["counted"]) == 9 == timing.completion_tokens
    assert usage.total_tokens == usage.prompt_tokens + 9
    assert answer.done.finish_reason == "length"
    assert 0 < timing.ttft_ms <= timing.total_ms
    assert timing.prefill_ms > 0
    assert timing.total_ms >= timing.ttft_ms + timing.decode_ms - 0.001
    assert sum(len(delta.tokens) for delta in answer.deltas) == 9


async def test_the_text_is_what_the_tokens_say(engine: Any, tape: Tape, tiny_model: TinyModel) -> None:
    from transformers import AutoTokenizer

    answer = await ask(engine, chat("Say something.", max_tokens=40, id="said"))
    tokenizer = AutoTokenizer.from_pretrained(tiny_model("llama"))
    said = tokenizer.decode(tape.tokens["said"], skip_special_tokens=True)
    # mlx-lm's detokenizer drops a space before the very first word.
    assert answer.text == said.removeprefix(" ")


async def test_a_raw_prompt_is_not_templated(engine: Any, tape: Tape, tiny_model: TinyModel) -> None:
    from transformers import AutoTokenizer

    ids = AutoTokenizer.from_pretrained(tiny_model("llama")).encode("def main():", add_special_tokens=False)
    settings: dict[str, Any] = {"max_tokens": 4, "sampling": GREEDY}
    await ask(engine, Request(prompt="def main():", id="text", **settings))
    await ask(engine, Request(prompt=tuple(ids), id="ids", **settings))
    assert tape.prompts["text"] == tape.prompts["ids"] == ids
    assert tape.tokens["text"] == tape.tokens["ids"]
    for prompt in ("", (), (999_999,), (-1,)):
        with pytest.raises(BadRequest) as caught:
            await ask(engine, Request(prompt=prompt, **settings))
        assert caught.value.param == "prompt"


async def test_the_demo_model_says_what_it_sees(demo_engine: Any) -> None:
    """The engine on a model with sense: the whole way from a PNG to words."""
    await demo_engine.ready()
    answer = await ask(demo_engine, chat(picture("red", "circle", (96, 96)), "What is in this image?", max_tokens=24))
    assert "red" in answer.text.lower()
    assert "circle" in answer.text.lower()
    assert answer.done.finish_reason == "stop"
    (receipt,) = answer.done.media
    assert receipt.kind == "image"
    assert receipt.decoded_px == (96, 96)
    assert 0 < receipt.tokens < answer.done.usage.prompt_tokens


# -- endings -----------------------------------------------------------------------------------------------------------


async def test_stop_strings_end_the_text_before_them(engine: Any) -> None:
    """Twin inside: the same check without the stop string does not hold."""
    full = (await ask(engine, chat("Tell me more.", max_tokens=40))).text
    middle = len(full) // 2
    for stop in (full[middle], full[middle : middle + 3], full[middle : middle + 12], full[-4:]):
        answer = await ask(engine, chat("Tell me more.", max_tokens=40, stop=("never said", stop)))
        assert answer.text == full[: full.index(stop)]
        assert answer.done.finish_reason == "stop"
        assert stop not in answer.text
        assert answer.done.usage.completion_tokens <= 40
    unstopped = await ask(engine, chat("Tell me more.", max_tokens=40, stop=("never said",)))
    assert (unstopped.text, unstopped.done.finish_reason) == (full, "length")


@pytest.mark.parametrize("name", ["<|im_end|>", "<|endoftext|>"])
async def test_every_stop_id_ends_the_answer(engine: Any, tiny_model: TinyModel, name: str) -> None:
    """One is in config.json only, the other in generation_config.json and the tokenizer only."""
    from transformers import AutoTokenizer

    stop_id = AutoTokenizer.from_pretrained(tiny_model("llama")).convert_tokens_to_ids(name)
    forced = replace(GREEDY, logit_bias=((stop_id, 1000.0),))
    answer = await ask(engine, chat("Hello", max_tokens=5, sampling=forced))
    assert (answer.text, answer.done.finish_reason, answer.done.usage.completion_tokens) == ("", "stop", 1)


async def test_special_tokens_never_reach_the_text(seeing: Any, tape: Tape, tiny_model: TinyModel) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model("qwen3_vl"))
    for name in ("<|vision_start|>", "<|im_start|>", "<|video_pad|>"):
        token = tokenizer.convert_tokens_to_ids(name)
        forced = replace(GREEDY, logit_bias=((token, 1000.0),))
        answer = await ask(seeing, chat("Hello", max_tokens=4, sampling=forced, id=name))
        assert tape.tokens[name] == [token] * 4, "the token was not forced, so nothing was tried"
        assert (answer.text, answer.done.finish_reason, answer.done.usage.completion_tokens) == ("", "length", 4)


# -- limits ------------------------------------------------------------------------------------------------------------


async def test_a_default_is_clamped_to_the_context_and_an_explicit_number_is_not(
    engine_for: EngineFor, tiny_model: TinyModel
) -> None:
    engine = await engine_for(tiny_model("llama"), max_model_len=64)
    answer = await ask(engine, chat("Go on until there is no room left.", max_tokens=None))
    prompt = answer.done.usage.prompt_tokens
    assert answer.done.finish_reason == "length"
    assert answer.done.usage.total_tokens == 64
    exact = await ask(engine, chat("Go on until there is no room left.", max_tokens=64 - prompt))
    assert exact.text == answer.text
    with pytest.raises(ContextOverflow) as caught:
        await ask(engine, chat("Go on until there is no room left.", max_tokens=64 - prompt + 1))
    assert caught.value.param == "max_tokens"
    assert caught.value.code == "context_length_exceeded"
    assert str(prompt) in caught.value.message


async def test_a_prompt_beyond_the_context_is_refused_and_the_engine_goes_on(
    engine_for: EngineFor, tiny_model: TinyModel
) -> None:
    engine = await engine_for(tiny_model("llama"), max_model_len=64)
    for max_tokens in (None, 1):
        with pytest.raises(ContextOverflow) as caught:
            await ask(engine, chat("word " * 200, max_tokens=max_tokens))
        assert caught.value.param == "messages"
        assert "64" in caught.value.message
    assert (await ask(engine, chat("Short.", max_tokens=3))).done.usage.completion_tokens == 3


@pytest.mark.parametrize("max_tokens", [0, -2])
async def test_no_tokens_at_all_is_a_bad_request(engine: Any, max_tokens: int) -> None:
    with pytest.raises(BadRequest) as caught:
        await ask(engine, chat("Hello", max_tokens=max_tokens))
    assert caught.value.param == "max_tokens"


async def test_a_full_queue_is_busy_and_empties_again(tiny_model: TinyModel, engine_for: EngineFor) -> None:
    engine = await engine_for(tiny_model("llama"), max_num_seqs=1, max_queue=1)
    slow = [chat(f"Request {i}", max_tokens=200, sampling=GREEDY) for i in range(6)]
    results = await asyncio.gather(*(ask(engine, request) for request in slow), return_exceptions=True)
    busy = [r for r in results if isinstance(r, Busy)]
    assert busy
    assert all(isinstance(r, Busy) or r.done.finish_reason for r in results)  # type: ignore[union-attr]
    assert busy[0].status == 429
    assert (await ask(engine, slow[0])).done.usage.completion_tokens > 0


# -- bad input: a clear error, and the engine goes on ------------------------------------------------------------------


async def refused(engine: Any, request: Request, kind: type[EngineError]) -> EngineError:
    with pytest.raises(kind) as caught:
        await ask(engine, request)
    assert caught.value.message
    assert (await ask(engine, chat("Still there?", max_tokens=2))).done.usage.completion_tokens == 2
    assert not (await settled(engine)).running
    return caught.value


async def test_a_text_model_refuses_pictures(engine: Any, clip_path: Path) -> None:
    error = await refused(engine, chat(picture(), "What?"), BadRequest)
    assert error.code == "unsupported_media"
    assert (await refused(engine, chat(clip_path, "What?"), BadRequest)).code == "unsupported_media"


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64,bm90IGFuIGltYWdl",
        "data:image/png;base64,%%%",
        "data:image/png;base64,",
        "http://127.0.0.1:9/x.png",
        "ftp://example.org/x.png",
        "no url at all",
    ],
)
async def test_a_medium_that_cannot_be_read_is_named(seeing: Any, url: str) -> None:
    part = Part("image", url=url, param="messages[0].content[1]")
    request = Request(messages=(Message("user", (Part("text", "What?"), part)),), max_tokens=2)
    error = await refused(seeing, request, EngineError)
    assert error.status in (400, 413)
    assert error.param == "messages[0].content[1]"


async def test_text_that_spells_a_placeholder_is_no_picture(seeing: Any) -> None:
    """Counted as one, it would shift every picture behind it."""
    answers = [
        await ask(seeing, chat(picture(), f"What is {word} here?"))
        for word in ("<|image_pad|>", "x", "<|vision_start|>")
    ]
    assert len({answer.done.media[0].tokens for answer in answers}) == 1
    assert answers[0].done.usage.prompt_tokens > answers[1].done.usage.prompt_tokens


async def test_a_picture_that_leaves_no_token_is_an_error(
    engine_for: EngineFor, tiny_model: TinyModel, tmp_path: Path
) -> None:
    """A chat template that drops pictures: a fluent answer about nothing is the worst of all answers."""
    folder = shutil.copytree(tiny_model("qwen3_vl"), tmp_path / "blind")
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("<|image_pad|>", "").replace("<|video_pad|>", ""))
    engine = await engine_for(folder)
    error = await refused(engine, chat(picture(), "What is this?", max_tokens=4), BadMedia)
    assert "picture" in error.message or "image" in error.message


async def test_limits_of_media_per_request(engine_for: EngineFor, tiny_model: TinyModel, clip_path: Path) -> None:
    engine = await engine_for(tiny_model("qwen3_vl"), media=MediaLimits(max_images=1, max_videos=0))
    await ask(engine, chat(picture(), "One.", max_tokens=2))
    await refused(engine, chat(picture(), picture("blue"), "Two."), BadRequest)
    await refused(engine, chat(clip_path, "A clip."), BadRequest)


async def test_a_prompt_that_breaks_the_model_fails_alone(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in one request's prefill is that request's error; another that decodes meanwhile does not notice."""
    from engine.models.adapter import Adapter

    whole = (await ask(engine, chat("I decode.", max_tokens=30))).text

    def failing(name: str) -> Any:
        original = getattr(Adapter, name)

        def fail_on_long(self: Adapter, ids: list[int], *rest: Any) -> Any:
            if len(ids) > 100:
                raise ValueError("out of luck")
            return original(self, ids, *rest)

        return fail_on_long

    for name in ("prefill", "finish"):
        monkeypatch.setattr(Adapter, name, failing(name))
    good, bad = await asyncio.gather(
        ask(engine, chat("I decode.", max_tokens=30)), ask(engine, chat("word " * 200)), return_exceptions=True
    )
    assert isinstance(bad, Internal)
    assert "out of luck" not in bad.message, "the cause belongs in the log"
    assert not isinstance(good, BaseException)
    assert good.text == whole


async def test_a_decode_step_that_fails_ends_its_requests_and_no_others(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.models.batch import Batch

    step, broken = Batch.step, [True]

    def fail_once(self: Batch) -> Any:
        if broken and len(self) == 2:
            broken.clear()
            raise ValueError("out of luck")
        return step(self)

    monkeypatch.setattr(Batch, "step", fail_once)
    results = await asyncio.gather(
        *(ask(engine, chat(text, max_tokens=60)) for text in ("One", "Two")), return_exceptions=True
    )
    assert not broken, "the two never decoded together"
    assert [type(result) for result in results] == [Internal, Internal]
    assert (await ask(engine, chat("After", max_tokens=3))).done.usage.completion_tokens == 3


async def test_done_is_one_and_last(engine: Any) -> None:
    events = [event async for event in engine.stream(chat("Hello", max_tokens=5))]
    assert [isinstance(event, Done) for event in events] == [False] * (len(events) - 1) + [True]


async def test_the_servers_defaults_apply_where_the_request_says_nothing(
    engine_for: EngineFor, tiny_model: TinyModel
) -> None:
    engine = await engine_for(tiny_model("llama"), sampling=Sampling(temperature=0.0), max_tokens=7)
    request = chat("Hello", max_tokens=None, sampling=Sampling())
    first, second = await ask(engine, request), await ask(engine, request)
    assert first.text == second.text
    assert first.done.usage.completion_tokens == 7
