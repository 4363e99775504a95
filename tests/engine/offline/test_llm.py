"""LLM: answers in the order of their prompts, one batch, the same as alone; what cannot be done is refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine import LLM, RequestOutput, SamplingParams
from engine.assets import asset
from engine.errors import BadMedia, BadRequest, EngineError, ModelNotFound, Unavailable
from engine.models.batch import Batch
from engine.offline import shared
from tests.pictures import picture, picture_url

CIRCLE = asset("samples") / "circle.png"
GREEDY = SamplingParams(temperature=0, max_tokens=32)
OPENED = "<|im_start|>user\n"
SEEN = "<|vision_start|><|image_pad|><|vision_end|>"
ASKED = "What color is the circle?<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM("demo") as one:
        yield one


def texts(outputs: list[RequestOutput]) -> list[str]:
    return [output.outputs[0].text for output in outputs]


def asked_about(colour: str) -> dict[str, Any]:
    return {"prompt": OPENED + SEEN + ASKED, "multi_modal_data": {"image": picture(colour)}}


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each decode step has."""
    seen: list[int] = []
    step = Batch.step

    def counted(batch: Batch) -> Any:
        seen.append(len(batch))
        return step(batch)

    monkeypatch.setattr(Batch, "step", counted)
    return seen


def test_a_hundred_prompts_are_one_batch_and_answer_as_each_alone(llm: LLM, rows: list[int]) -> None:
    prompts = [f"{i} What is it?" for i in range(100)]
    params = SamplingParams(temperature=0, max_tokens=60, ignore_eos=True)
    together = llm.generate(prompts, params, use_tqdm=False)
    assert max(rows) > 64, "more than the server's default at once"
    assert [output.prompt for output in together] == prompts
    assert [output.request_id for output in together] == [str(i) for i in range(100)]
    for place in (0, 57, 99):
        (alone,) = llm.generate(prompts[place], params, use_tqdm=False)
        assert alone.outputs[0].token_ids == together[place].outputs[0].token_ids
    assert len({output.outputs[0].token_ids for output in together}) > 1, "the prompts make no difference"


def test_one_at_a_time_is_no_batch(rows: list[int]) -> None:
    """The twin of the count above."""
    with LLM("demo", max_num_seqs=1) as one:
        one.generate(["Hello"] * 4, SamplingParams(temperature=0, max_tokens=4, ignore_eos=True), use_tqdm=False)
    assert max(rows) == 1


def test_pictures_stand_where_the_prompt_has_their_placeholders(llm: LLM) -> None:
    found = llm.generate([asked_about("red"), asked_about("blue")], GREEDY, use_tqdm=False)
    assert texts(found) == ["It is red.", "It is blue."]
    assert found[0].media[0].tokens == found[0].prompt_token_ids.count(6) > 1, "the receipt is of what was read"
    chat = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": picture_url("red")}}]}]
    chat[0]["content"].append({"type": "text", "text": "What color is the circle?"})  # type: ignore[attr-defined]
    (answer,) = llm.chat(chat, GREEDY, use_tqdm=False)
    assert answer.prompt_token_ids == found[0].prompt_token_ids, "it is the prompt that the template writes"


def test_two_pictures_keep_their_order(llm: LLM) -> None:
    pair = [picture("red"), picture("blue", "square")]
    for order, wanted in ((pair, "red circle"), (pair[::-1], "blue square")):
        prompt = {"prompt": OPENED + SEEN + SEEN + "Compare these images." + ASKED[-34:], "multi_modal_data": None}
        prompt["multi_modal_data"] = {"image": order}
        assert f"first image shows a {wanted}" in texts(llm.generate(prompt, GREEDY, use_tqdm=False))[0]


@pytest.mark.parametrize("text", ["What is it?", SEEN + SEEN, "<|image_pad|>", "<|video_pad|>"])
def test_placeholders_that_are_not_those_of_the_media_are_refused(llm: LLM, text: str) -> None:
    prompt = {"prompt": OPENED + text + ASKED, "multi_modal_data": {"image": picture()}}
    with pytest.raises(BadRequest, match=r"prompt: for its media this model wants <\|vision_start\|>"):
        llm.generate(prompt, GREEDY, use_tqdm=False)


def test_a_placeholder_without_its_picture_is_refused(llm: LLM) -> None:
    with pytest.raises(BadRequest, match="stands for image input"):
        llm.generate(OPENED + SEEN + ASKED, GREEDY, use_tqdm=False)


def test_token_ids_in_every_spelling(llm: LLM) -> None:
    (by_text,) = llm.generate("Hello there", GREEDY, use_tqdm=False)
    ids = list(by_text.prompt_token_ids)
    for prompts in (ids, [ids], {"prompt_token_ids": ids}):
        (found,) = llm.generate(prompts, GREEDY, use_tqdm=False)
        assert found.outputs == by_text.outputs and found.prompt_token_ids == by_text.prompt_token_ids
        assert found.prompt is None
    (found,) = llm.generate(prompt_token_ids=[ids], sampling_params=GREEDY, use_tqdm=False)
    assert found.outputs == by_text.outputs
    with pytest.raises(BadRequest, match="media go with a text"):
        llm.generate({"prompt_token_ids": ids, "multi_modal_data": {"image": picture()}}, GREEDY, use_tqdm=False)


def test_what_comes_back(llm: LLM) -> None:
    params = SamplingParams(temperature=0, max_tokens=5, logprobs=3, prompt_logprobs=1, n=2, ignore_eos=True)
    (output,) = llm.generate("Hello there", params, use_tqdm=False)
    first, second = output.outputs
    assert (first.index, second.index, first.finish_reason) == (0, 1, "length")
    assert first.token_ids == second.token_ids and len(first.token_ids) == 5
    assert first.logprobs is not None and len(first.logprobs) == 5
    for token, choices in zip(first.token_ids, first.logprobs, strict=True):
        assert len(choices) == 3 and choices[token].rank == 1, "greedy takes the likeliest"
        assert [one.logprob for one in choices.values()] == sorted((c.logprob for c in choices.values()), reverse=True)
    assert first.cumulative_logprob == pytest.approx(
        sum(c[t].logprob for t, c in zip(first.token_ids, first.logprobs, strict=True))
    )
    assert output.prompt_logprobs is not None and output.prompt_logprobs[0] is None
    assert len(output.prompt_logprobs) == len(output.prompt_token_ids)
    metrics = output.metrics
    assert metrics.arrival_time <= metrics.first_token_time <= metrics.finished_time
    assert metrics.timing.completion_tokens == 10


def test_a_stop_text_is_told(llm: LLM) -> None:
    question = [
        {
            "role": "user",
            "content": [{"type": "image", "image": CIRCLE}, {"type": "text", "text": "Describe this image."}],
        }
    ]
    params = SamplingParams(temperature=0, max_tokens=32, stop=[" circle"])
    (output,) = llm.chat(question, params, use_tqdm=False)
    assert (output.outputs[0].text, output.outputs[0].stop_reason) == ("A large red", " circle")


def test_each_prompt_may_have_its_own_settings(llm: LLM) -> None:
    lengths = [SamplingParams(temperature=0, max_tokens=n, ignore_eos=True) for n in (2, 5)]
    assert [len(o.outputs[0].token_ids) for o in llm.generate(["a", "b"], lengths, use_tqdm=False)] == [2, 5]
    with pytest.raises(BadRequest, match="there are 2 for 3 prompts"):
        llm.generate(["a", "b", "c"], lengths, use_tqdm=False)


def test_chats_in_a_list_are_a_batch(llm: LLM) -> None:
    chats = [
        [
            {
                "role": "user",
                "content": [{"type": "image", "image": image}, {"type": "text", "text": "What color is it?"}],
            }
        ]
        for image in (picture("red"), picture("green"))
    ]
    assert texts(llm.chat(chats, GREEDY, use_tqdm=False)) == ["It is red.", "It is green."]


def test_a_text_in_a_message_names_no_file(llm: LLM, tmp_path: Path) -> None:
    """A Path does, as does a text where the folder is allowed."""
    picture("blue").save(tmp_path / "blue.png")

    def asked(value: Any) -> list[dict[str, Any]]:
        return [
            {
                "role": "user",
                "content": [{"type": "image", "image": value}, {"type": "text", "text": "What color is it?"}],
            }
        ]

    with pytest.raises(BadMedia, match="files of the server are not read"):
        llm.chat(asked(str(tmp_path / "blue.png")), GREEDY, use_tqdm=False)
    assert texts(llm.chat(asked(tmp_path / "blue.png"), GREEDY, use_tqdm=False)) == ["It is blue."]
    with LLM("demo", allowed_local_media_path=tmp_path) as open_to_it:
        assert texts(open_to_it.chat(asked("blue.png"), GREEDY, use_tqdm=False)) == ["It is blue."]


def test_keywords_that_are_not_known_are_refused_by_name() -> None:
    with pytest.raises(BadRequest, match="swap_space: this keyword is not known") as refused:
        LLM("demo", swap_space=4)  # type: ignore[call-arg]
    assert refused.value.param == "swap_space"
    with pytest.raises(BadRequest, match=r"pipeline_parallel_size: the layers of a model are not dealt .* not 2"):
        LLM("demo", pipeline_parallel_size=2)
    with pytest.raises(
        BadRequest, match=r"tensor_parallel_size 2: .* mlx\.launch -n 2 --backend ring -- python SCRIPT"
    ):
        LLM("demo", tensor_parallel_size=2)
    with pytest.raises(BadRequest, match="tensor_parallel_size: it must be a whole number of at least 1, not 0"):
        LLM("demo", tensor_parallel_size=0)
    with pytest.raises(BadRequest, match="dtype: it must be auto"):
        LLM("demo", dtype="int3")
    with pytest.raises(BadRequest, match="limit_mm_per_prompt"):
        LLM("demo", limit_mm_per_prompt={"smell": 1})
    with pytest.raises(BadRequest, match="max_model_len"):
        LLM("demo", max_model_len=0)
    with pytest.raises(TypeError, match="best_of"):
        SamplingParams(best_of=2)  # type: ignore[call-arg]
    with pytest.raises(ModelNotFound, match="no-such-model"):
        LLM("./no-such-model")


def test_values_out_of_range_are_refused_with_their_field(llm: LLM) -> None:
    with pytest.raises(BadRequest, match="temperature: it must be"):
        llm.generate("Hello", SamplingParams(temperature=-1), use_tqdm=False)
    with pytest.raises(BadRequest, match="max_tokens: it must be at least 1"):
        llm.generate("Hello", SamplingParams(max_tokens=0), use_tqdm=False)
    with pytest.raises(BadRequest, match="fps_of_video: this keyword is not known"):
        llm.chat([{"role": "user", "content": "hi"}], GREEDY, use_tqdm=False, fps_of_video=1)
    with pytest.raises(BadRequest, match="temperature: it belongs into sampling_params"):
        llm.chat([{"role": "user", "content": "hi"}], GREEDY, use_tqdm=False, temperature=0)
    with pytest.raises(BadRequest, match="gives no embeddings"):
        llm.encode(["Hello"])


def test_limits_of_media_hold() -> None:
    with LLM("demo", limit_mm_per_prompt={"image": 1}) as one:
        prompt = {"prompt": OPENED + SEEN + SEEN + ASKED, "multi_modal_data": {"image": [picture(), picture("blue")]}}
        with pytest.raises(BadRequest, match="2 images were sent; the limit is 1"):
            one.generate(prompt, GREEDY, use_tqdm=False)


def test_one_error_ends_the_batch_and_the_next_call_works(llm: LLM) -> None:
    with pytest.raises(BadMedia, match=r"prompts\[1\]\.multi_modal_data\.image"):
        broken = {"prompt": OPENED + SEEN + ASKED, "multi_modal_data": {"image": b"no picture"}}
        llm.generate([asked_about("red"), broken], GREEDY, use_tqdm=False)
    assert texts(llm.generate(asked_about("red"), GREEDY, use_tqdm=False)) == ["It is red."]


def test_more_media_than_have_room_wait_for_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for one decoded picture: the second is refused by the engine while the first is there, and asked again."""
    from engine.offline import llm as module

    size = (320, 320)
    original = module.engine_config
    from dataclasses import replace

    room = int(1.5 * 3 * size[0] * size[1])
    monkeypatch.setattr(
        module, "engine_config", lambda *a: replace(original(*a), max_waiting_media_bytes=room, max_num_seqs=4)
    )
    prompts = [
        {"prompt": OPENED + SEEN + ASKED, "multi_modal_data": {"image": np.asarray(picture(colour, size=size))}}
        for colour in ("red", "blue", "green", "yellow")
    ]
    with LLM("demo") as one:
        found = texts(one.generate(prompts, GREEDY, use_tqdm=False))
        assert found == [f"It is {colour}." for colour in ("red", "blue", "green", "yellow")]
        large = Image.new("RGB", (2 * size[0], 2 * size[1]))
        with pytest.raises(EngineError, match="decoded, this request's media have"):
            one.generate({**prompts[0], "multi_modal_data": {"image": large}}, GREEDY, use_tqdm=False)


def test_a_closed_model_says_so_and_its_engine_is_gone() -> None:
    one, other = LLM("demo", max_model_len=1000), LLM("demo", max_model_len=1000)
    engine = one._lease.shared.engine
    assert other._lease.shared.engine is engine, "the same model and options share one"
    one.close()
    one.close()
    with pytest.raises(Unavailable, match="This model was closed"):
        one.generate("Hello", GREEDY)
    assert texts(other.generate("Hello", SamplingParams(temperature=0, max_tokens=2), use_tqdm=False))
    other.close()
    assert engine.snapshot().state == "stopped"
    assert engine not in [kept.engine for kept in shared._engines.values()]


def test_the_bar_counts_prompts(llm: LLM, capfd: pytest.CaptureFixture[str]) -> None:
    llm.generate(["a", "b", "c"], SamplingParams(temperature=0, max_tokens=2))
    assert "Processed prompts: 100%" in (said := capfd.readouterr().err) and "3/3" in said
    llm.generate(["a"], SamplingParams(temperature=0, max_tokens=2), use_tqdm=False)
    assert capfd.readouterr().err == ""
