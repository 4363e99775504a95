"""A chat of sixty screenshots, sent as data: URLs by OpenAI's client: its next question decodes and resizes none of
them. Counted where the work is done: in binascii and in Pillow."""

from __future__ import annotations

import binascii
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import openai
import pytest
from PIL import Image, ImageFile

from engine.media.recent import Outlines
from tests import pictures

NUM_TURNS = 60
COLOURS = ("red", "green", "blue", "orange", "purple")


@pytest.fixture
def worked(demo_engine: Any, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often data was decoded and pictures were decoded and resized. No pixels are kept, as of pictures for which
    there is no room."""
    monkeypatch.setattr(demo_engine._media, "_known", lambda tenant, content, decode: decode())
    count: Counter[str] = Counter()

    def counted(name: str, owner: Any, method: str) -> None:
        work: Callable[..., Any] = getattr(owner, method)

        def call(*args: Any, **options: Any) -> Any:
            count[name] += 1
            return work(*args, **options)

        monkeypatch.setattr(owner, method, call)

    counted("base64", binascii, "a2b_base64")
    counted("decoded", ImageFile.ImageFile, "load")
    counted("resized", Image.Image, "resize")
    return count


def turn(number: int) -> list[Any]:
    """A screenshot that is no other's, larger than the model shall see it, and what was said about it."""
    shot = pictures.picture(COLOURS[number % 5], size=(112, 96 + 2 * number))
    image = {"url": pictures.data_url(pictures.encode(shot)), "max_pixels": 64 * 64}
    asked = [{"type": "image_url", "image_url": image}, {"type": "text", "text": "And now?"}]
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": "It is a circle."}]


def asked_on(client: openai.OpenAI, salt: str) -> Callable[[], Any]:
    """Ask once in a chat of sixty screenshots. Returns what asks the next question."""
    turns = [message for number in range(NUM_TURNS) for message in turn(number)]
    ask = partial(client.chat.completions.create, model="demo", max_tokens=2, temperature=0)
    ask(messages=turns[:-1], extra_body={"cache_salt": salt})
    next_question: Any = {"role": "user", "content": "What color was the first one?"}
    return partial(ask, messages=[*turns, next_question], extra_body={"cache_salt": salt})


def check(answer: Any, worked: Counter[str]) -> None:
    assert len(answer.usage.media) == NUM_TURNS
    assert answer.usage.prompt_tokens_details.cached_tokens > 0.9 * answer.usage.prompt_tokens
    assert not worked, f"old pictures were read: {dict(worked)}"


def test_the_next_question_decodes_and_resizes_none_of_them(client: openai.OpenAI, worked: Counter[str]) -> None:
    asking = asked_on(client, "sixty screenshots")
    assert min(worked[name] for name in ("base64", "decoded", "resized")) >= NUM_TURNS, "they were read at first"
    worked.clear()
    check(asking(), worked)


@pytest.mark.parametrize("name", ["base64", "decoded"])
def test_sabotage_pictures_that_are_not_known_again_are_seen(
    client: openai.OpenAI, worked: Counter[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    asking = asked_on(client, f"sixty unknown ones, {name}")
    monkeypatch.setattr(Outlines, "get", lambda self, key: None)
    worked.clear()
    with pytest.raises(AssertionError, match=f"old pictures were read: .*'{name}': "):
        check(asking(), worked)
