"""POST /v1/audio/transcriptions with the real OpenAI client, on the tiny random gemma4; and what other models say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from engine.api.app import create_app
from engine.config import EngineConfig, ModelSpec, ServerConfig
from tests.sounds import encoded, tone, wav

SOUND = wav(tone(440))


@pytest.fixture(scope="module")
def hearing(engine_pool: Any, tiny_model: Callable[..., Path], serve: Callable[[Any], Any]) -> Iterator[openai.OpenAI]:
    engine = engine_pool.start(EngineConfig(model=ModelSpec(str(tiny_model("gemma4"))), max_tokens=8))
    with (
        serve(create_app(engine, ServerConfig())) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=60) as client,
    ):
        yield client


def ask(client: openai.OpenAI, sound: bytes = SOUND, **settings: Any) -> Any:
    return client.audio.transcriptions.create(model="default", file=("a.wav", sound), **settings)


def test_a_sound_is_heard(hearing: openai.OpenAI) -> None:
    """It is the answer of a chat about the same sound; greedy, as the temperature of transcriptions is 0."""
    whole = ask(hearing)
    assert whole.text and whole.usage.input_tokens > 25 and whole.usage.output_tokens == 8
    assert ask(hearing).text == whole.text != ask(hearing, wav(tone(3000))).text
    assert ask(hearing, encoded("flac", tone(440))).text
    assert ask(hearing, response_format="text").strip() == whole.text
    events = list(ask(hearing, stream=True))
    assert "".join(event.delta for event in events if event.type == "transcript.text.delta").strip() == whole.text
    assert events[-1].type == "transcript.text.done" and events[-1].text == whole.text


@pytest.mark.parametrize("form", [{}, {"response_format": "text"}, {"stream": "true"}])
def test_what_is_not_read_is_named(hearing: openai.OpenAI, form: dict[str, str]) -> None:
    """However the transcript is written."""
    answer = httpx.post(
        f"{hearing.base_url}audio/transcriptions",
        data={**form, "wishes": "x"},
        files={"file": ("a.wav", SOUND)},
        timeout=60,
    )
    assert (answer.status_code, answer.headers.get("x-ignored-fields")) == (200, "wishes"), answer.text
    refused = httpx.post(
        f"{hearing.base_url}audio/transcriptions",
        data={**form, "lora_path": "x"},
        files={"file": ("a.wav", SOUND)},
        timeout=60,
    )
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "lora_path")


def test_language_and_prompt_are_read(hearing: openai.OpenAI) -> None:
    plain = ask(hearing).usage.input_tokens
    assert ask(hearing, language="de").usage.input_tokens > plain
    assert ask(hearing, prompt="Ada Lovelace").usage.input_tokens > plain


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"response_format": "verbose_json"}, "response_format"),
        ({"response_format": "srt"}, "response_format"),
        ({"timestamp_granularities": ["word"]}, "timestamp_granularities[]"),
        ({"include": ["logprobs"]}, "include[]"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": 1e30}, "temperature"),
        ({"language": "x" * 65}, "language"),
        ({"sound": b"no sound"}, "file"),
    ],
)
def test_what_is_wrong_is_named(hearing: openai.OpenAI, settings: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(hearing, **settings)
    assert caught.value.param == param and ask(hearing).text


def test_a_model_without_ears_refuses_by_name(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="demo cannot take audio input") as caught:
        ask(client)
    assert caught.value.param == "file"


def test_a_form_without_a_file(http: httpx.Client) -> None:
    for form in (
        {"data": {"model": "demo"}},
        {"json": {"model": "demo"}},
        {"content": b"--x", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
    ):
        answer = http.post("/v1/audio/transcriptions", **form)  # type: ignore[arg-type]
        assert answer.status_code == 400, answer.text
