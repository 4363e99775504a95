"""POST /v1/completions with the real OpenAI client."""

from __future__ import annotations

from typing import Any

import openai
import pytest


def ask(client: openai.OpenAI, prompt: Any = "The picture shows", **settings: Any) -> Any:
    return client.completions.create(
        **{"model": "default", "prompt": prompt, "temperature": 0, "max_tokens": 8, **settings}
    )


def test_a_plain_answer(client: openai.OpenAI) -> None:
    answer = ask(client)
    assert answer.object == "text_completion" and answer.id.startswith("cmpl-") and answer.model == "demo"
    assert answer.choices[0].text and answer.choices[0].finish_reason in ("stop", "length")
    assert 1 <= answer.usage.completion_tokens <= 8 and answer.usage.prompt_tokens > 1


def test_streaming_gives_the_same_text(client: openai.OpenAI) -> None:
    whole = ask(client)
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == whole.choices[0].text
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_a_list_of_one_and_token_ids(client: openai.OpenAI, demo_engine: Any) -> None:
    whole = ask(client)
    assert ask(client, ["The picture shows"]).choices[0].text == whole.choices[0].text
    few = ask(client, [15, 16, 17])
    assert few.usage.prompt_tokens == 3 == ask(client, [[15, 16, 17]]).usage.prompt_tokens


def test_placeholders_without_media_are_refused(client: openai.OpenAI, demo_engine: Any) -> None:
    for prompt in ("What is <|image_pad|>?", [5, 6, 7]):
        with pytest.raises(openai.BadRequestError, match="stands for") as caught:
            ask(client, prompt)
        assert caught.value.param == "prompt"


@pytest.mark.parametrize("prompt", ["", [], ["a", "b"], [10**9], [-1]])
def test_wrong_prompts(client: openai.OpenAI, prompt: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, prompt)
    assert (caught.value.param or "").startswith("prompt")


def test_echo_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="echo"):
        ask(client, echo=True)
