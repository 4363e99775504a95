"""Media that the settings of a model keep from it. A raw prompt has no words to put in the place of a picture."""

from __future__ import annotations

import pytest

from engine.config import ModelSpec, VisionProxy
from engine.errors import BadRequest
from engine.runtime.intake.checks import check_vision_mode
from engine.types import Message, Part, Request

PROXY = ModelSpec("org/words", vision="proxy", vision_proxy=VisionProxy("eyes"))
SHOWN = (Message("user", (Part("image", path="x.png", param="images[0]"),)),)


def test_a_chat_is_described_and_a_raw_prompt_is_not() -> None:
    check_vision_mode(Request(SHOWN), PROXY, describes=True)
    with pytest.raises(BadRequest, match=r"images\[0\]: .* done only for answers to chats"):
        check_vision_mode(Request(SHOWN, prompt="<image>"), PROXY, describes=True)
    with pytest.raises(BadRequest, match="keeps media from this model"):
        check_vision_mode(Request(SHOWN, prompt="<image>"), ModelSpec("org/words", vision="disabled"))
    check_vision_mode(Request(prompt="words"), PROXY, describes=True)
