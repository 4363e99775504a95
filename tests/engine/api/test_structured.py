"""Several choices, log-probabilities, answers that must look like something: the real OpenAI client over a socket."""

from __future__ import annotations

import json
import math
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import httpx
import openai
import pytest
from pydantic import BaseModel, Field

from tests import pictures

HELLO: Any = [{"role": "user", "content": "hi"}]
PICTURE: Any = [
    {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": {"url": pictures.picture_url("red", "circle")}},
            {"type": "text", "text": "What is in the picture?"},
        ],
    }
]


def ask(client: openai.OpenAI, messages: Any = HELLO, **settings: Any) -> Any:
    settings = {"model": "default", "temperature": 0, "max_tokens": 24, **settings}
    return client.chat.completions.create(messages=messages, **settings)


def streamed(client: openai.OpenAI, **settings: Any) -> tuple[dict[int, list[Any]], Any]:
    """The chunks of each choice, and the usage."""
    by_index: dict[int, list[Any]] = {}
    usage = None
    for chunk in ask(client, stream=True, stream_options={"include_usage": True}, **settings):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            by_index.setdefault(choice.index, []).append(choice)
    return by_index, usage


def text_of(choices: list[Any]) -> str:
    return "".join(choice.delta.content or "" for choice in choices)


# -- several choices ---------------------------------------------------------------------------------------------------


def test_several_choices_whole_and_streamed(client: openai.OpenAI) -> None:
    settings: dict[str, Any] = {"n": 3, "seed": 5, "temperature": 3.0}
    alone = [ask(client, **{**settings, "n": 1, "seed": 5 + i}) for i in range(3)]
    whole = ask(client, **settings)
    said = [choice.message.content for choice in whole.choices]
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    assert said == [answer.choices[0].message.content for answer in alone] and len(set(said)) > 1
    assert [c.finish_reason for c in whole.choices] == [answer.choices[0].finish_reason for answer in alone]
    assert whole.usage.prompt_tokens == alone[0].usage.prompt_tokens, "the prompt is counted once"
    assert whole.usage.completion_tokens == sum(answer.usage.completion_tokens for answer in alone)

    by_index, usage = streamed(client, **settings)
    assert [text_of(by_index[i]) for i in range(3)] == said
    for choices in by_index.values():
        assert choices[0].delta.role == "assistant"
        reasons = [choice.finish_reason for choice in choices]
        assert reasons[:-1] == [None] * (len(reasons) - 1) and reasons[-1] in ("stop", "length")
    assert usage.completion_tokens == whole.usage.completion_tokens


def test_more_choices_than_rows(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="n must be between 1 and 32, not 64"):
        ask(client, n=64)


# -- log-probabilities -------------------------------------------------------------------------------------------------


def check_logprobs(content: list[Any], text: str, num_top: int) -> None:
    assert b"".join(bytes(token.bytes) for token in content).decode().strip() == text.strip()
    for token in content:
        assert token.logprob <= 0 and len(token.top_logprobs) == num_top
        if num_top:
            best = token.top_logprobs[0]
            assert best.logprob >= token.logprob and best.logprob == max(top.logprob for top in token.top_logprobs)
            assert best.bytes is None or bytes(best.bytes).decode(errors="replace") == best.token
        assert sum(math.exp(top.logprob) for top in token.top_logprobs) < 1.001


@pytest.mark.parametrize("num_top", [0, 3, 20])
def test_log_probabilities(client: openai.OpenAI, num_top: int) -> None:
    answer = ask(client, PICTURE, logprobs=True, top_logprobs=num_top)
    (choice,) = answer.choices
    check_logprobs(choice.logprobs.content, choice.message.content, num_top)
    assert len(choice.logprobs.content) in (answer.usage.completion_tokens, answer.usage.completion_tokens - 1)
    if num_top:  # greedy
        assert all(token.token == token.top_logprobs[0].token for token in choice.logprobs.content)
    (chunks,) = streamed(client, messages=PICTURE, logprobs=True, top_logprobs=num_top)[0].values()
    pieces = [token for chunk in chunks if chunk.logprobs for token in chunk.logprobs.content]
    assert pieces == choice.logprobs.content
    assert ask(client).choices[0].logprobs is None


def test_log_probabilities_of_several_choices_that_a_text_ends(client: openai.OpenAI) -> None:
    """Stop texts lie across the borders of tokens; what lies behind one has no log-probability."""
    settings: dict[str, Any] = {
        "messages": PICTURE,
        "n": 2,
        "seed": 3,
        "temperature": 1.0,
        "logprobs": True,
        "top_logprobs": 1,
    }
    free = ask(client, **settings)
    texts = [choice.message.content for choice in free.choices]
    stops = [text[len(text) // 2 - 2 : len(text) // 2 + 3] for text in texts]
    answer = ask(client, **settings, stop=[*stops, *(f"never {i}" for i in range(14))])
    for choice, text in zip(answer.choices, texts, strict=True):
        assert (
            choice.finish_reason == "stop"
            and choice.message.content == text[: min(text.find(s) for s in stops if s in text)]
        )
        written = b"".join(bytes(token.bytes) for token in choice.logprobs.content).decode()
        assert written.startswith(choice.message.content) and text.startswith(written), (
            "the last token may reach beyond"
        )
        last = bytes(choice.logprobs.content[-1].bytes).decode()
        assert len(written) - len(last) < len(choice.message.content)
    by_index, _ = streamed(client, **settings, stop=stops)
    assert [text_of(by_index[i]) for i in range(2)] == [choice.message.content for choice in answer.choices]


# -- the form of an answer ---------------------------------------------------------------------------------------------


class Drawing(BaseModel):
    """What is seen in a picture."""

    shape: Literal["circle", "square", "triangle"]
    color: Literal["red", "green", "blue"]
    size: int = Field(ge=1, le=9)


FORMS: dict[str, tuple[dict[str, Any], Any]] = {
    "json_object": ({"response_format": {"type": "json_object"}, "logit_bias": {}}, None),
    "regex": ({"extra_body": {"structured_outputs": {"regex": "[a-f]{3,5}!"}}}, re.compile("[a-f]{3,5}!").fullmatch),
    "choice": ({"extra_body": {"guided_choice": ["left", "right"]}}, ["left", "right"].__contains__),
    "grammar": ({"extra_body": {"guided_grammar": 'root ::= "a" "b"+ "c"'}}, re.compile("ab+c").fullmatch),
    "schema": ({"extra_body": {"guided_json": Drawing.model_json_schema()}}, Drawing.model_validate_json),
}


def test_a_parsed_answer(client: openai.OpenAI) -> None:
    """As the client sends a pydantic model: response_format json_schema, strict."""
    answer = client.chat.completions.parse(model="default", messages=PICTURE, response_format=Drawing, temperature=0)
    assert isinstance(answer.choices[0].message.parsed, Drawing) and answer.choices[0].finish_reason == "stop"


def test_forms_at_once(client: openai.OpenAI) -> None:
    """Two requests at once are where other servers begin to fail."""
    jobs = [(name, seed) for seed in range(4) for name in FORMS if name != "json_object"]

    def one(job: tuple[str, int]) -> tuple[str, str]:
        settings, _ = FORMS[job[0]]
        choice = ask(client, PICTURE, seed=job[1], temperature=1.0, max_tokens=200, **settings).choices[0]
        assert choice.finish_reason == "stop", choice
        return job[0], choice.message.content

    plain = ask(client, PICTURE).choices[0].message.content
    with ThreadPoolExecutor(9) as pool:
        beside = pool.submit(lambda: ask(client, PICTURE).choices[0].message.content)
        said = list(pool.map(one, jobs))
    assert all(FORMS[name][1](text) for name, text in said), said
    assert beside.result() == plain == ask(client, PICTURE).choices[0].message.content


def test_a_streamed_form_with_choices_and_log_probabilities(client: openai.OpenAI) -> None:
    settings = {"messages": PICTURE, "n": 2, "seed": 2, "temperature": 1.0, "logprobs": True, "top_logprobs": 5}
    by_index, _ = streamed(client, max_tokens=200, response_format={"type": "json_schema", "json_schema": {
        "name": "drawing", "schema": Drawing.model_json_schema()}}, **settings)  # fmt: skip
    for chunks in by_index.values():
        assert Drawing.model_validate_json(text_of(chunks))
        tokens = [token for chunk in chunks if chunk.logprobs for token in chunk.logprobs.content]
        assert all(math.isfinite(top.logprob) for token in tokens for top in token.top_logprobs)
        assert min(len(token.top_logprobs) for token in tokens) < 5, "where less may come, less is listed"


@pytest.mark.parametrize("stream", [False, True])
def test_a_form_that_cannot_be_had(http: httpx.Client, stream: bool) -> None:
    body = {"messages": HELLO, "stream": stream, "guided_json": {"type": "object", "not": {}}}
    response = http.post("/v1/chat/completions", json=body)
    error = response.json()["error"]
    assert response.status_code == 400 and error["param"] == "guided_json" and error["code"] == "invalid_grammar"
    assert error["message"] == 'guided_json: Unimplemented keys: ["not"].'


def test_a_form_too_large(http: httpx.Client) -> None:
    body = {"messages": HELLO, "guided_json": {"enum": ["x" * 100] * 3000}}
    assert "at most 200,000 are allowed" in http.post("/v1/chat/completions", json=body).json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/tokenize"])
@pytest.mark.parametrize("stream", [False, True])
def test_what_was_not_read_is_named(http: httpx.Client, path: str, stream: bool) -> None:
    prompt = {"prompt": "hi"} if path == "/v1/completions" else {"messages": HELLO}
    response = http.post(path, json={**prompt, "max_tokens": 1, "stream": stream, "user": "me", "flavor": 1})
    assert response.status_code == 200 and response.headers["x-ignored-fields"] == "user, flavor"
    assert "x-ignored-fields" not in http.post(path, json={**prompt, "max_tokens": 1.0, "stream": stream}).headers


# -- sense -------------------------------------------------------------------------------------------------------------

QUESTIONS = {
    "What is the capital of France?": "paris",
    "What is the opposite of hot?": "cold",
    "What planet do we live on?": "earth",
    "What language is spoken in Spain?": "spanish",
    "What is the first letter of the English alphabet?": "a",
    "What language is spoken in France?": "french",
    "What is the opposite of up?": "down",
    "What language is spoken in Germany?": "german",
    "What is the capital of Japan?": "tokyo",
    "What is the capital of England?": "london",
}
ANSWER = {
    "type": "object",
    "properties": {"answer": {"type": "string", "maxLength": 40}},
    "required": ["answer"],
    "additionalProperties": False,
}


def test_a_trained_model_answers_ten_questions_in_json(trained: openai.OpenAI) -> None:
    def one(question: str) -> str:
        schema = {"type": "json_schema", "json_schema": {"name": "answer", "schema": ANSWER, "strict": True}}
        messages = [{"role": "user", "content": f"{question} Answer as JSON."}]
        choice = ask(trained, messages, max_tokens=60, response_format=schema).choices[0]
        assert choice.finish_reason == "stop"
        return json.loads(choice.message.content)["answer"]

    with ThreadPoolExecutor(10) as pool:
        said = dict(zip(QUESTIONS, pool.map(one, QUESTIONS), strict=True))
    assert {q: text for q, text in said.items() if QUESTIONS[q] not in text.lower()} == {}
