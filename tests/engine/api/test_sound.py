"""Sound over /v1 with the real OpenAI client, on the tiny random gemma4: every form that clients send it in."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import openai
import pytest

from engine.api.app import create_app
from engine.config import EngineConfig, MediaLimits, ModelSpec, ServerConfig
from tests.pictures import data_url
from tests.sounds import encoded, tone, wav

SOUND = wav(tone(440))
CODED = {codec: encoded(codec, tone(440, 1.0, 48_000)) for codec in ("mp3", "flac", "vorbis")}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the server may read, and that a web server on loopback gives out."""
    folder = tmp_path_factory.mktemp("sounds")
    (folder / "sound.wav").write_bytes(SOUND)
    return folder


@pytest.fixture(scope="module")
def web(root: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(root)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def hearing(
    engine_pool: Any, tiny_model: Callable[..., Path], serve: Callable[[Any], Any], root: Path
) -> Iterator[openai.OpenAI]:
    limits = MediaLimits(media_root=root, allow_private_urls=True, max_audios=2)
    engine = engine_pool.start(EngineConfig(model=ModelSpec(str(tiny_model("gemma4"))), media=limits))
    asyncio.run(engine.ready())  # until then the model's object says less
    with (
        serve(create_app(engine, ServerConfig())) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=60) as client,
    ):
        yield client


def ask(client: openai.OpenAI, *parts: dict[str, Any]) -> Any:
    content: Any = [*parts, {"type": "text", "text": "What do you hear?"}]
    messages: Any = [{"role": "user", "content": content}]
    return client.chat.completions.create(model="default", messages=messages, temperature=0, max_tokens=8)


def input_audio(data: bytes, kind: str = "wav") -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": kind}}


def test_input_audio_is_heard(hearing: openai.OpenAI) -> None:
    """OpenAI's own form; the receipt says what became of it."""
    answer = ask(hearing, input_audio(SOUND))
    assert answer.choices[0].message.content
    (receipt,) = answer.usage.media
    assert {name: receipt[name] for name in ("kind", "bytes", "duration", "tokens")} == {
        "kind": "audio",
        "bytes": len(SOUND),
        "duration": 1.0,
        "tokens": 25,
    }
    assert len(receipt["sha256"]) == len(hashlib.sha256().hexdigest())
    other = ask(hearing, input_audio(wav(tone(3000))))
    assert other.choices[0].message.content != answer.choices[0].message.content


def test_every_form_is_the_same_sound(hearing: openai.OpenAI, web: str) -> None:
    url = data_url(SOUND, "audio/wav")
    forms: list[dict[str, Any]] = [
        {"type": "audio_url", "audio_url": {"url": url}},
        {"type": "audio_url", "audio_url": {"url": f"{web}/sound.wav"}},
        {"type": "audio", "audio": url},
        {"type": "audio", "audio": "sound.wav"},
        {"type": "audio", "audio": {"url": f"{web}/sound.wav"}},
    ]
    expected = ask(hearing, input_audio(SOUND))
    for form in forms:
        answer = ask(hearing, form)
        assert answer.usage.media[0]["sha256"] == expected.usage.media[0]["sha256"], form
        assert answer.choices[0].message.content == expected.choices[0].message.content


@pytest.mark.parametrize("codec", CODED)
def test_other_codecs_are_heard(hearing: openai.OpenAI, codec: str) -> None:
    (receipt,) = ask(hearing, input_audio(CODED[codec], codec)).usage.media
    assert receipt["kind"] == "audio" and abs(receipt["duration"] - 1.0) < 0.08 and 23 <= receipt["tokens"] <= 28


def test_the_models_card_says_that_it_hears(hearing: openai.OpenAI) -> None:
    (model,) = hearing.models.list()
    assert (model.model_extra or {})["capabilities"]["audio"] is True


@pytest.mark.parametrize(
    ("parts", "param", "why"),
    [
        ([input_audio(b"no sound")], "messages[0].content[0].input_audio.data", "plain text"),
        ([input_audio(SOUND[:9000])], "messages[0].content[0].input_audio.data", "truncated"),
        ([input_audio(wav(tone(seconds=31.0)))], "messages[0].content[0].input_audio.data", "hears at most 30 s"),
        ([input_audio(SOUND)] * 3, "messages", "3 audios were sent; the limit is 2"),
        ([{"type": "audio", "audio": "../x.wav"}], "messages[0].content[0].audio", "--media-root"),
    ],
)
def test_what_cannot_be_heard_is_a_400_that_names_it(
    hearing: openai.OpenAI, parts: list[dict[str, Any]], param: str, why: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(hearing, *parts)
    assert caught.value.param == param
    assert why in caught.value.message


def test_a_model_without_ears_refuses_by_name(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="demo cannot take audio input") as caught:
        ask(client, input_audio(SOUND))
    assert caught.value.param == "messages[0].content[0].input_audio.data"
