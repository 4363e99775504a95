"""Sound in the chat: offered where the model hears, and only there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.config import EngineConfig, ModelSpec
from tests.pictures import data_url
from tests.sounds import tone, wav

MICROPHONE = '#composer [data-testid="microphone-button"]'


@pytest.fixture(scope="module")
def hearing_url(serve_page: Any, engine_pool: Any, tiny_model: Callable[..., Path]) -> Iterator[str]:
    """The workbench on a model that hears, or at least answers otherwise to another sound."""
    spec = ModelSpec(str(tiny_model("gemma4")))
    with serve_page(engine_pool.start(EngineConfig(model=spec, max_tokens=12))) as url:
        yield url


def test_a_sound_file_is_heard_and_the_api_says_the_same(person, hearing_url, tmp_path, artifacts):
    sound = tmp_path / "tone.wav"
    sound.write_bytes(wav(tone(440)))
    me = person(hearing_url).arrive()
    me.page.locator(MICROPHONE).wait_for()
    me.set("Temperature", "0")
    me.drop(sound)
    me.shoot(artifacts / "sound-composer.png")
    me.ask("What do you hear?")
    assert me.page.locator("#chat .message audio").count() == 1
    me.shoot(artifacts / "sound-answer.png")
    parts = [{"type": "audio", "audio": data_url(sound.read_bytes(), "audio/wav")}]
    parts.append({"type": "text", "text": "What do you hear?"})
    body = {"model": "default", "temperature": 0, "messages": [{"role": "user", "content": parts}]}
    usage = httpx.post(f"{hearing_url}/v1/chat/completions", json=body, timeout=60).json()["usage"]
    assert usage["media"][0]["kind"] == "audio"
    assert f"{usage['prompt_tokens']} tokens in" in me.notes.last.inner_text()


def test_a_model_without_ears_offers_no_microphone(person, workbench_url):
    me = person(workbench_url).arrive()
    me.page.wait_for_timeout(1500)
    assert me.page.locator(MICROPHONE).count() == 0
    accepted = me.page.locator("#composer input[type=file]").first.get_attribute("accept") or ""
    assert "image/*" in accepted and "audio" not in accepted
