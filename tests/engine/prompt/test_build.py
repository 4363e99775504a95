"""prompt: the model reads what was sent, in its order and its turn; what it cannot read is refused in plain words."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.config import CacheConfig, MediaLimits
from engine.errors import BadRequest
from engine.media.read_medium import load_media
from engine.models import registry
from engine.models.families import family as family_row
from engine.prompt import processor, render
from engine.prompt.build import build_prompt
from engine.types import FrameSampling, Message, Part, Request
from engine.types.media import Media
from engine.types.prompt import Prompt
from tests import tiny
from tests.conftest import EngineFor
from tests.engine.checkpoints import fresh, load
from tests.engine.drive import ask, chat, part, user
from tests.engine.oracle import Oracle
from tests.families import FAMILIES, TEXT, VISION, Family
from tests.pictures import numbered_frames, picture, write_clip

TinyModel = Callable[..., Path]
SEVERAL = [name for name in VISION if FAMILIES[name].max_images is None]
CACHEABLE = [name for name in VISION if not family_row(name).whole_prompt]
RED, BLUE = picture("red"), picture("blue", "square")


def media_of(request: Request) -> tuple[Media, ...]:
    parts = [p for message in request.messages for p in message.parts if p.kind != "text"]
    return tuple(load_media(p, MediaLimits(), FrameSampling()) for p in parts)


def built(loaded: registry.Loaded, request: Request) -> Prompt:
    return build_prompt(loaded, request, media_of(request))


def said(loaded: registry.Loaded, prompt: Prompt) -> str:
    """The prompt as text, each run of placeholders as one word in angle brackets."""
    names = {token: f"<{kind}>" for kind, token in loaded.placeholder_ids().items()}
    words: list[str] = []
    for token in prompt.ids:
        word = names.get(token) or loaded.tokenizer.decode([token])
        if not (token in names and words and words[-1] == word):
            words.append(word)
    return "".join(words)


TURNS = Request(
    messages=(
        Message("system", (part("Be brief."),)),
        user(RED, "First question?"),
        Message("assistant", (part("First answer."),)),
        user("Second question?", BLUE),
    )
)


# -- the stock library's own prompt ------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [*VISION, *TEXT])
def test_the_ids_are_the_stock_processors(tiny_model: TinyModel, family: str, clip_path: Path) -> None:
    folder, sees = tiny_model(family), FAMILIES[family].vision
    loaded, oracle = load(folder), Oracle.load(folder, vision=sees)
    requests = [chat("  Spaces stay, ünïcode too.  ")]
    if sees:
        requests += [chat(RED, "After.")]
    if family in SEVERAL:
        requests += [chat("Before.", RED, "Between.", BLUE, "After."), TURNS]
        requests += [chat("Before.", clip_path, "After.")]
    for request in requests:
        expected = oracle.prompt(request.messages, native_video=loaded.card.native_video)
        prompt = built(loaded, request)
        # Where the model expands placeholders itself, the stock ids are what it is given.
        assert prompt.inputs.get("input_ids", prompt.ids) == expected


# -- order and turns ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", SEVERAL)
def test_parts_stay_in_order_and_in_their_turn(tiny_model: TinyModel, family: str) -> None:
    """mlx-vlm's own templating puts all pictures before or after the text, and into one turn."""
    loaded = load(tiny_model(family))
    text = said(loaded, built(loaded, chat("one", RED, "two", BLUE, "three")))
    assert re.search(r"one.*<image>.*two.*<image>.*three", text, re.DOTALL), text
    text = said(loaded, built(loaded, TURNS))
    assert re.search(
        r"Be brief\..*<image>.*First question\?.*First answer\..*Second question\?.*<image>", text, re.DOTALL
    ), text


@pytest.mark.parametrize("family", ["idefics3", "gemma3", "pixtral"])
def test_a_clip_becomes_pictures_with_their_times(tiny_model: TinyModel, family: str, clip_path: Path) -> None:
    loaded = load(tiny_model(family))
    request = chat("Before.", clip_path, "After.")
    (clip,) = media_of(request)
    text = said(loaded, built(loaded, request))
    times = [f"{float(t):.1f}" for t in re.findall(r"Frame at ([\d.]+) s:", text)]
    assert times == [f"{time_s:.1f}" for _, time_s in clip.frames]
    assert text.index("Before.") < text.index("Frame at") < text.index("After.")


def test_a_native_clip_has_its_true_times(tiny_model: TinyModel, clip_path: Path) -> None:
    """Qwen3-VL writes the time of each pair of frames; from the source's own rate, not from a default."""
    loaded = load(tiny_model("qwen3_vl"))
    request = chat(clip_path, "What?")
    (clip,) = media_of(request)
    times = [time_s for _, time_s in clip.frames]
    pairs = [(a + b) / 2 for a, b in zip(times[::2], times[1::2], strict=True)]
    found = [float(t) for t in re.findall(r"<([\d.]+) seconds>", said(loaded, built(loaded, request)))]
    assert found == pytest.approx(pairs, abs=0.051)


def sampled(clip: Path, frames: FrameSampling) -> tuple[Request, Media]:
    request = chat(clip, "What?")
    return request, load_media(request.messages[0].parts[0], MediaLimits(), frames)


@pytest.mark.parametrize("frames", [FrameSampling(start_s=6.0, end_s=10.0), FrameSampling(fps=1.0, max_frames=40)])
def test_a_part_of_a_clip_keeps_its_place_in_time(tiny_model: TinyModel, tmp_path: Path, frames: FrameSampling) -> None:
    """gemma4's own processor counts from zero, and takes 32 of 40 frames. Twin: without our wrapper it is wrong."""
    clip = write_clip(tmp_path / "slow.mp4", numbered_frames(40, (64, 64)), fps=1.0)
    loaded = load(tiny_model("gemma4"))
    request, medium = sampled(clip, frames)
    expected = [int(time_s) for _, time_s in medium.frames]
    assert expected != list(range(0, len(expected) * 3, 3))

    def times() -> list[int]:
        text = said(loaded, build_prompt(loaded, request, (medium,)))
        return [60 * int(minutes) + int(seconds) for minutes, seconds in re.findall(r"(\d\d):(\d\d)", text)]

    assert times() == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processor, "_TimedFrames", lambda video_processor, clips: video_processor)
        assert times() != expected
    assert times() == expected, "the processor is as it was"


async def texts(engine: Any, *requests: Request) -> list[str]:
    return [(await ask(engine, request)).text for request in requests]


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_5_vl", "idefics3", "gemma3", "gemma4", "pixtral"])
async def test_the_answer_depends_on_what_was_seen(
    engine_for: EngineFor, tiny_model: TinyModel, family: str, clip_path: Path, tmp_path: Path
) -> None:
    """Which picture, which of two comes first, in which turn, and what a clip shows when."""
    engine = await engine_for(tiny_model(family), cache=CacheConfig(enabled=False))
    backwards = write_clip(tmp_path / "back.mp4", numbered_frames(8)[::-1], fps=4.0)
    swapped = replace(TURNS, messages=(TURNS.messages[0], user(BLUE, "First question?"), *TURNS.messages[2:]))
    pairs = [
        (chat(RED, "What?"), chat(BLUE, "What?")),
        (chat(RED, BLUE, "What?"), chat(BLUE, RED, "What?")),
        (chat("This", RED, "is what?"), chat("This", "is what?", RED)),
        (replace(TURNS, max_tokens=12), replace(swapped, max_tokens=12)),
        (chat(clip_path, "What?"), chat(backwards, "What?")),
    ]
    for one, other in pairs:
        greedy_one, greedy_other = (replace(r, sampling=chat("").sampling) for r in (one, other))
        first, second = await texts(engine, greedy_one, greedy_other)
        assert first != second
        assert await texts(engine, greedy_one) == [first], "the same request does not give the same answer"


@pytest.mark.parametrize("what", ["pictures", "template"])
async def test_sabotage_of_the_order_is_seen(
    engine_for: EngineFor, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Twins: pictures that swap places, and a template that puts all pictures first, change the answer."""
    engine = await engine_for(tiny_model("qwen3_vl"), cache=CacheConfig(enabled=False))
    request = chat("one", RED, "two", BLUE, "three")
    right = await texts(engine, request)
    if what == "pictures":
        pictures = processor._pictures
        monkeypatch.setattr(processor, "_pictures", lambda *args: pictures(*args)[::-1])
    else:
        message = render._message

        def pictures_first(*args: Any) -> dict[str, Any]:
            out = message(*args)
            return out | {"content": sorted(out["content"], key=lambda piece: piece["type"] != "image")}

        monkeypatch.setattr(render, "_message", pictures_first)
    assert await texts(engine, request) != right


# -- cache ids ---------------------------------------------------------------------------------------------------------


def test_a_prompt_that_is_read_both_ways_has_no_cache_ids(tiny_model: TinyModel) -> None:
    """Its KV depends on what comes after: nothing of it may serve another prompt, words alone neither."""
    loaded = load(tiny_model("paligemma"))
    for request in (chat(RED, "What?"), chat("Words."), Request(prompt=(70, 71, 72))):
        assert built(loaded, request).cache_ids == []


@pytest.mark.parametrize("family", CACHEABLE)
def test_cache_ids_tell_pictures_apart_by_content(tiny_model: TinyModel, family: str) -> None:
    loaded = load(tiny_model(family))
    red, again, blue = (built(loaded, chat(p, "What?")) for p in (RED, RED.copy(), BLUE))
    assert red.ids == blue.ids, "the pictures should differ in nothing but their pixels"
    assert red.cache_ids == again.cache_ids != blue.cache_ids
    placeholders = set(loaded.placeholder_ids().values())
    for token, cache_id in zip(red.ids, red.cache_ids, strict=True):
        assert (cache_id < 0) if token in placeholders else (cache_id == token)


@pytest.mark.parametrize("family", SEVERAL)
def test_each_picture_has_its_own_cache_id_and_span(tiny_model: TinyModel, family: str) -> None:
    """Whatever the pictures' sizes: a token with another picture's id would be a wrong hit."""
    loaded = load(tiny_model(family))
    wide = picture("green", "square", (160, 48))
    single = [built(loaded, chat(p, "x")) for p in (RED, wide)]
    ids = [next(i for i in p.cache_ids if i < 0) for p in single]
    counts = [sum(i < 0 for i in p.cache_ids) for p in single]
    both = built(loaded, chat(RED, wide, "x"))
    if family == "idefics2":
        # It pads them to one size, so the model sees each otherwise than alone: one id for both, and neither's own.
        (shared,) = {i for i in both.cache_ids if i < 0}
        assert shared not in ids and both.cache_ids.count(shared) == sum(counts)
        return
    assert [both.cache_ids.count(i) for i in ids] == counts
    first, second = both.spans
    assert {i for i in both.cache_ids[first.start : first.end] if i < 0} == {ids[0]}
    assert {i for i in both.cache_ids[second.start : second.end] if i < 0} == {ids[1]}


# -- templates ---------------------------------------------------------------------------------------------------------


def with_template(folder: Path, target: Path, template: str) -> registry.Loaded:
    copy = shutil.copytree(folder, target)
    (copy / "chat_template.jinja").write_text(template)
    return load(copy)


@pytest.mark.parametrize("family", ["llama", "qwen3_vl"])
def test_a_template_that_refuses_is_the_clients_to_read(tiny_model: TinyModel, tmp_path: Path, family: str) -> None:
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('No system role here') }}{% endif %}text"
    loaded = with_template(tiny_model(family), tmp_path / "m", template)
    request = Request(messages=(Message("system", (part("Be brief."),)), user("Hello")))
    with pytest.raises(BadRequest, match="No system role here") as caught:
        built(loaded, request)
    assert caught.value.param == "messages"


@pytest.mark.parametrize("family", ["llama", "qwen3_vl"])
def test_template_settings_reach_the_template(tiny_model: TinyModel, tmp_path: Path, family: str) -> None:
    template = "mood={{ mood|default('none') }}: {{ messages|length }}"
    loaded = with_template(tiny_model(family), tmp_path / "m", template)
    plain = built(loaded, chat("Hello"))
    merry = built(loaded, chat("Hello", template_kwargs=(("mood", "merry"),)))
    assert "mood=none: 1" in loaded.tokenizer.decode(plain.ids)
    assert "mood=merry: 1" in loaded.tokenizer.decode(merry.ids)


def test_no_template_at_all_still_reads_the_text(tiny_model: TinyModel, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_model("llama"), tmp_path / "bare")
    (copy / "chat_template.jinja").unlink()
    loaded = load(copy)
    request = Request(messages=(user("One."), Message("assistant", (part("Two."),)), user("Three.")))
    text = loaded.tokenizer.decode(built(loaded, request).ids)
    assert text.index("One.") < text.index("Two.") < text.index("Three.")


def test_an_opened_thought_is_known(tmp_path: Path) -> None:
    family = Family(config=FAMILIES["qwen3"].config, tokens=("<think>", "</think>"))
    folder = tiny.write(family, "qwen3", "float32", tmp_path / "thinks")
    assert not built(fresh(folder), chat("Why?")).starts_in_reasoning
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n"))
    assert built(fresh(folder), chat("Why?")).starts_in_reasoning


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_special_tokens_in_raw_ids_are_the_clients_choice(tiny_model: TinyModel) -> None:
    loaded = load(tiny_model("llama"))
    assert built(loaded, Request(prompt=(1, 2, 70))).ids == [1, 2, 70]


def test_empty_text_parts_are_harmless(tiny_model: TinyModel) -> None:
    loaded = load(tiny_model("qwen3_vl"))
    request = Request(messages=(Message("user", (Part("text", ""), part(RED), Part("text", ""))),))
    assert built(loaded, request).media[0].tokens > 0
    assert np.array(built(loaded, request).ids).ndim == 1


# -- media of other roles, and which of several is refused -------------------------------------------------------------


@pytest.mark.parametrize("role", ["system", "assistant"])
@pytest.mark.parametrize("family", SEVERAL)
def test_media_of_every_role_are_read_or_refused_by_their_place(tiny_model: TinyModel, family: str, role: Any) -> None:
    """Never a prompt in which one is missing: two pictures leave twice the placeholders of one, or there is an error
    that says which message it is."""
    loaded = load(tiny_model(family))
    first = Message(role, (part("Look."), replace(part(RED), param="messages[0].content[1]")))
    messages = (first, user("Hello")) if role == "system" else (user("Hi"), first, user("Hello"))
    request = Request(messages=(*messages[:-1], user("Hello", BLUE)))
    try:
        prompt = built(loaded, request)
    except BadRequest as error:
        assert error.param in ("messages[0].content[1]", "messages"), error.message
        assert "template" in error.message
        return
    assert len(prompt.media) == 2 and all(placed.tokens for placed in prompt.media)
    assert said(loaded, prompt).count("<image>") >= 2


def test_a_template_that_leaves_a_role_out(tiny_model: TinyModel) -> None:
    """Twin: the same template shows it in a message of the user."""
    loaded = fresh(tiny_model("qwen3_vl"))
    loaded.tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'user' %}{% for p in m.content %}{% if p.type == 'image' %}"
        "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ p.text }}{% endif %}{% endfor %}{% else %}"
        "{{ m.content[0].text }}{% endif %}{% endfor %}"
    )
    red = replace(part(RED), param="messages[0].content[1]")
    parts = (part("Look."), red)
    with pytest.raises(BadRequest, match="shows no media in messages of role system") as caught:
        built(loaded, Request(messages=(Message("system", parts), user("Hello"))))
    assert caught.value.param == "messages[0].content[1]"
    assert len(built(loaded, Request(messages=(Message("user", parts),))).media) == 1


def test_the_one_of_several_that_the_processor_refuses_is_named(tiny_model: TinyModel) -> None:
    loaded = load(tiny_model("qwen3_vl"))
    parts = [
        replace(part(image), param=f"content[{i}]") for i, image in enumerate((RED, picture(size=(2100, 10)), BLUE))
    ]
    with pytest.raises(BadRequest, match=r"content\[1\]: .*aspect ratio") as caught:
        built(loaded, Request(messages=(Message("user", tuple(parts)),)))
    assert caught.value.param == "content[1]"
