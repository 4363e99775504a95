"""POST /v1/completions with the real OpenAI client: one prompt or many, echoed or not, with log-probabilities."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest

from engine.models import sampling
from engine.types import Request

PICTURE = "The picture shows"
PROMPTS = [PICTURE, "A red circle and a blue", "Two"]


def ask(client: openai.OpenAI, prompt: Any = PICTURE, **settings: Any) -> Any:
    return client.completions.create(
        **{"model": "default", "prompt": prompt, "temperature": 0, "max_tokens": 8, **settings}
    )


def read_ids(http: httpx.Client, text: str) -> list[int]:
    return list(http.post("/v1/tokenize", json={"prompt": text}).json()["tokens"])


def test_a_plain_answer(client: openai.OpenAI) -> None:
    answer = ask(client)
    assert answer.object == "text_completion" and answer.id.startswith("cmpl-") and answer.model == "demo"
    assert answer.choices[0].text and answer.choices[0].finish_reason in ("stop", "length")
    assert 1 <= answer.usage.completion_tokens <= 8 and answer.usage.prompt_tokens > 1


def joined(chunks: list[Any]) -> dict[int, tuple[str, str | None, list[float | None]]]:
    """By choice: its text, its finish reason, and the log-probabilities of its tokens."""
    out: dict[int, tuple[str, str | None, list[float | None]]] = {}
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        text, reason, values = out.get(choice.index, ("", None, []))
        values = values + (choice.logprobs.token_logprobs if choice.logprobs else [])
        out[choice.index] = (text + choice.text, choice.finish_reason or reason, values)
    return out


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"prompt": PROMPTS, "n": 2},
        {"prompt": PROMPTS, "echo": True},
        {"prompt": PROMPTS, "echo": True, "logprobs": 2, "n": 2},
        {"prompt": PROMPTS, "echo": True, "max_tokens": 0},
    ],
)
def test_streaming_gives_the_same(client: openai.OpenAI, settings: dict[str, Any]) -> None:
    whole = ask(client, **settings)
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}, **settings))
    expected = {
        c.index: (c.text, c.finish_reason, c.logprobs.token_logprobs if c.logprobs else []) for c in whole.choices
    }
    streamed = joined(chunks)
    assert {index: streamed[index][:2] for index in streamed} == {index: expected[index][:2] for index in expected}
    for index, (_, _, values) in expected.items():
        assert streamed[index][2] == pytest.approx(values, abs=1e-4)
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_token_ids_are_a_prompt(client: openai.OpenAI, http: httpx.Client) -> None:
    ids = read_ids(http, PICTURE)
    by_text, by_ids = ask(client), ask(client, ids)
    assert by_ids.choices[0].text == by_text.choices[0].text and by_ids.usage.prompt_tokens == len(ids)
    assert ask(client, [ids]).choices[0].text == by_text.choices[0].text == ask(client, [PICTURE]).choices[0].text
    assert ask(client, ids, echo=True).choices[0].text == PICTURE + by_text.choices[0].text


def each_answers_its_own_prompt(client: openai.OpenAI, http: httpx.Client) -> None:
    alone = [ask(client, prompt) for prompt in PROMPTS]
    assert len({answer.choices[0].text for answer in alone}) == len(PROMPTS), "they must differ to be told apart"
    for prompts in (PROMPTS, [read_ids(http, prompt) for prompt in PROMPTS]):
        together = ask(client, prompts, n=2)
        assert [choice.index for choice in together.choices] == list(range(2 * len(PROMPTS)))
        texts = [choice.text for choice in together.choices]
        assert texts == [answer.choices[0].text for answer in alone for _ in range(2)], "an answer is another prompt's"
        assert together.usage.prompt_tokens == sum(answer.usage.prompt_tokens for answer in alone)
        assert together.usage.completion_tokens == 2 * sum(answer.usage.completion_tokens for answer in alone)


def test_each_of_a_list_is_answered_in_its_place(client: openai.OpenAI, http: httpx.Client) -> None:
    """The index of a choice is that of its prompt times n, plus its own."""
    each_answers_its_own_prompt(client, http)


def test_sabotage_prompts_in_another_order_are_seen(
    client: openai.OpenAI, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.api.completions import routes

    stream_each = routes.stream_each
    monkeypatch.setattr(routes, "stream_each", lambda engine, requests: stream_each(engine, requests[::-1]))
    with pytest.raises(AssertionError, match="an answer is another prompt's"):
        each_answers_its_own_prompt(client, http)


def test_more_prompts_than_rows(client: openai.OpenAI, demo_engine: Any) -> None:
    many = ["A red", "Two"] * demo_engine.config.max_rows
    texts = [choice.text for choice in ask(client, many, max_tokens=2).choices]
    assert len(texts) == len(many) and texts == texts[:2] * demo_engine.config.max_rows


async def prompt_logprobs_are_true(client: openai.OpenAI, http: httpx.Client, engine: Any) -> None:
    """As lm-eval asks: the prompt's log-probabilities are those of its tokens as a forced answer to its first one."""
    for text in PROMPTS:
        ids = read_ids(http, text)
        echoed = ask(client, [ids], echo=True, logprobs=3, max_tokens=0).choices[0].logprobs
        first = Request(prompt=(ids[0],))
        forced = await engine.likelihood(first, tuple(ids[1:])) if len(ids) > 1 else ()
        assert echoed.token_logprobs[0] is None and echoed.top_logprobs[0] is None
        assert echoed.token_logprobs[1:] == pytest.approx(list(forced), abs=2e-3), "not what the model says"


async def test_the_prompts_own_log_probabilities(client: openai.OpenAI, http: httpx.Client, demo_engine: Any) -> None:
    await prompt_logprobs_are_true(client, http, demo_engine)


async def test_sabotage_log_probabilities_of_the_next_place_are_seen(
    client: openai.OpenAI, http: httpx.Client, demo_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlx.core as mx

    honest = sampling.prompt_logprobs
    shifted = lambda logits, tokens, num_top: honest(mx.roll(logits, 1, axis=0), tokens, num_top)  # noqa: E731
    monkeypatch.setattr(sampling, "prompt_logprobs", shifted)
    with pytest.raises(AssertionError, match="not what the model says"):
        await prompt_logprobs_are_true(client, http, demo_engine)


def test_slices_of_a_prompt_give_the_same(client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.models import head

    asked = {"prompt": "A red circle and a blue square, and " * 12, "echo": True, "logprobs": 2, "max_tokens": 1}
    at_once = ask(client, **asked).choices[0].logprobs
    monkeypatch.setattr(head, "MAX_LOGITS_BYTES", 7 * 8 * 1024)
    sliced = ask(client, **asked).choices[0].logprobs
    assert sliced.tokens == at_once.tokens and len(sliced.tokens) > 100
    assert sliced.token_logprobs[1:] == pytest.approx(at_once.token_logprobs[1:], abs=1e-3)


def test_the_older_shape_of_log_probabilities(client: openai.OpenAI) -> None:
    answer = ask(client, echo=True, logprobs=3, max_tokens=4).choices[0]
    lists = answer.logprobs
    assert len(lists.tokens) == len(lists.token_logprobs) == len(lists.top_logprobs) == len(lists.text_offset)
    for token, offset in zip(lists.tokens, lists.text_offset, strict=True):
        assert answer.text[offset:].startswith(token) or token.startswith("<|"), (token, offset)
    for token, value, top in zip(lists.tokens[1:], lists.token_logprobs[1:], lists.top_logprobs[1:], strict=True):
        assert 3 <= len(top) <= 4 and top[token] == value <= max(top.values())
    assert all(
        value == max(top.values())
        for value, top in zip(lists.token_logprobs[-4:], lists.top_logprobs[-4:], strict=True)
    ), "greedy"
    without = ask(client, logprobs=0, max_tokens=4).choices[0].logprobs
    assert without.tokens == lists.tokens[-4:] and without.text_offset[0] == 0
    assert [len(top) for top in without.top_logprobs] == [1] * 4


def test_an_end_is_among_the_tokens(client: openai.OpenAI) -> None:
    """lm-eval counts from the back, so what the model chose last must be there, text or not."""
    prompt = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    lists = ask(client, prompt, logprobs=1, max_tokens=64).choices[0]
    assert lists.finish_reason == "stop" and lists.logprobs.tokens[-1].startswith("<|")


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", ""]}, "prompt[1]"),
        ({"prompt": [[1], []]}, "prompt[1]"),
        ({"prompt": [10**9]}, "prompt"),
        ({"prompt": [[300], [1023, 10**6]]}, "prompt[1]"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": ["a", 5]}, "prompt"),
        ({"prompt": "<|image_pad|>"}, "prompt"),
        ({"prompt": ["a"] * 1025}, "prompt"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"echo": "yes"}, "echo"),
        ({"n": 129}, "n"),
    ],
)
def test_what_is_wrong_is_named(http: httpx.Client, settings: dict[str, Any], param: str) -> None:
    body = {"prompt": PICTURE, "max_tokens": 2, **settings}
    answer = http.post("/v1/completions", json=body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["param"] or "").startswith(param) and param in error["message"]
    assert http.post("/v1/completions", json={"prompt": PICTURE, "max_tokens": 1}).status_code == 200


def test_one_prompt_too_long_is_named_by_its_place(http: httpx.Client) -> None:
    answer = http.post("/v1/completions", json={"prompt": ["Two", "word " * 20_000], "max_tokens": 1})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, "prompt[1]", "context_length_exceeded")


def test_best_of_may_be_n(client: openai.OpenAI) -> None:
    assert len(ask(client, n=2, best_of=2).choices) == 2
